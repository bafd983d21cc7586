"""The small CLIPs that come with the package: trained from scratch, and bundled with the RAM on top of them."""

"""The travelling folder: these files are copied to the Hub beside the weights, so they import only each other."""

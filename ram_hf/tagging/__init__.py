"""Files of people: finding and reading images, and writing their tags. Import each module by its name."""

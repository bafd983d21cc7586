"""Files of people: finding and reading pictures, and writing their tags. Import each module by its name."""

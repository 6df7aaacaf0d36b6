"""Reading: files of any size and format -> the texts of their documents."""

"""Front doors for people: reports and pages to look at."""

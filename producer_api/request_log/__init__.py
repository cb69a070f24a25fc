"""Where the time of a request went: what this front end notes of each, and what both sides have noted of one."""

"""Numbers explained and measured again, and the files beside records checked."""

"""What goes wrong and how a run answers: faults, random cases, long runs."""

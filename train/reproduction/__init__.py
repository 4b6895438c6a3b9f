"""The papers' tables: as data, beside what was measured, and what has to be run for one."""

"""Finds methods and runs them on data sets, each in a process of its own or in this one."""

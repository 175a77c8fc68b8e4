"""The load tester and the fake engine; imports none of the other packages."""

"""The student guesses the teacher's prototypes, patch by patch (DetailCLIP, section 3.2)."""

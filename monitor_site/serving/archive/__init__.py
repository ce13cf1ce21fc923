"""`manage.py backup`, `restore` and `verify`: an installation in one file, and checks that it is complete.

May import every package, but not torch. Which checkpoint a run resumes from: `trainer.control.resume_choice`.
"""

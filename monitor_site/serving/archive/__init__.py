"""`manage.py backup`, `restore` and `verify`: an installation in one file, and whether all of it is whole.

May import every package. Knows nothing of torch. Which checkpoint a run resumes from: `trainer.control.resume_choice`.
"""

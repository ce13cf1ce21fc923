"""`manage.py backup`, `restore` and `verify`: an installation in one file, and checks that it is complete.

May import every package, but not torch. `trainer.control.resume_choice` chooses the checkpoint from which a run
resumes.
"""

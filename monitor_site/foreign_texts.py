"""English texts that do not come from our templates and views, listed here so that they are extracted for translation.

They are translated when they are shown: texts of the admin theme and django-axes, which have no Chinese, and
declarations of built-in recipes, as the database stores them. The recipes' descriptions are docstrings, which cannot be
marked.
"""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

RECIPES = (
    _("MNIST digits"),
    _(
        "A convolutional network on 5,000 real MNIST digits of 28×28 pixels.\n\n"
        "4,000 digits to train on, each shifted at random, and 1,000 to validate with. AdamW with a warm-up "
        "and\na cosine schedule reaches about 98 % after ten epochs, in a quarter of a minute on one CPU core."
    ),
    _("passes over the 4,000 training digits"),
    _("digits in one step"),
    _("precision of the forward pass; auto: mixed precision on a GPU, float32 on the CPU"),
    _("CPU threads of torch; 0 leaves the choice to torch"),
    _("epochs between two checkpoints"),
    _("steps between two records of the norms of each layer; 0 records none"),
    _("highest learning rate, after the warm-up"),
    _("steps in which the learning rate rises from 0"),
    _("weight decay of AdamW"),
    _("max norm to which gradients are clipped"),
    _("channels of the first convolution; the second has twice as many"),
    _("fraction of features left out before the last layer"),
    _("fraction of each label that is spread over all digits"),
    _("shift each training digit by up to two pixels"),
    _("processes that load the batches; 0: the training process, on its device"),
    _("Digits, quick"),
    _("A small network on 1,797 handwritten digits of 8×8 pixels: trains in about a second."),
    _("passes over the training set"),
    _("samples in one step"),
    _("step size of Adam"),
    _("width of the hidden layer"),
    _("Transformer on text"),
    _(
        "A decoder-only Transformer that learns to continue English text or Python source, byte by byte.\n\n"
        "It reads Python's own documentation (370 kB) or the sources of its standard library (11 MB), so "
        "nothing is\ndownloaded. Pre-norm blocks with rotary positions, input and output weights tied. After "
        "each epoch it\ncontinues a fixed prompt, and the result is shown."
    ),
    _("passes over the training text"),
    _("text sequences per step"),
    _("training text: Python's documentation (English) or its standard library (source code)"),
    _("context length in bytes"),
    _("blocks of attention and feed-forward network"),
    _("attention heads of each block"),
    _("width of a head; the width of the model is heads times head_width"),
    _("fraction of features left out while training"),
    _("weight decay of AdamW, on matrices only"),
    _("text that the model continues after each epoch"),
    _("length in bytes of the text that the model writes; 0: no text"),
    _("sampling temperature: higher is more random; 1: unscaled"),
)

# The texts that Django's own catalogue does not have.
THEME = (
    _("After you've created a user, you’ll be able to edit more user options."),
    _("All applications"),
    _("Apply Filters"),
    _("Cancel"),
    _("Choose file to upload"),
    _("Dark"),
    _("Date"),
    _("False"),
    _("Filters"),
    _("General"),
    _("Go back"),
    _("Light"),
    _("Loading more results..."),
    _("More actions"),
    _("Next"),
    _("No data"),
    _("No recent searches"),
    _("No results found"),
    _("No results matching your query"),
    _("Previous"),
    _(
        "Raw passwords are not stored, so there is no way to see this user’s password, but you can change "
        'the password using <a href="{}" class="text-primary-600 dark:text-primary-500">this form</a>.'
    ),
    _("Recent searches"),
    _("Reset filters"),
    _("Return to site"),
    _("Run"),
    _("Search apps and models..."),
    _("Select action"),
    _("Select action to run"),
    _("Select all rows"),
    _("Select record"),
    _("Select value"),
    _("System"),
    _("This item will be deleted."),
    _("This page yielded into no results. Create a new item or reset your filters."),
    _("Toggle password visibility"),
    _("True"),
    _("Type to search"),
    _("Welcome"),
    _("You have been successfully logged out from the administration"),
)

# Columns of django-axes in the admin.
LOGINS = (
    _("access attempt"),
    _("access attempts"),
    _("access log"),
    _("access logs"),
    _("User Agent"),
    _("IP Address"),
    _("Username"),
    _("Path"),
    _("Attempt Time"),
    _("Failed Logins"),
    _("Logout Time"),
    _("Session key hash (sha256)"),
    _("HTTP Accept"),
    _("GET Data"),
    _("POST Data"),
)

"""A model, so that migrating does something."""

from django.db import models


class Entry(models.Model):
    """One line of the ledger."""

    text = models.CharField(max_length=200)
    written_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.text

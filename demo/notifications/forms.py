"""What people say about their notifications."""

from typing import Any

from django import forms

from notifications.models import Delivery, Preference
from notifications.topics import EXPLAINED, Kind


class PreferencesForm(forms.Form):
    """One choice for each kind."""

    def __init__(self, person: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._person = person
        chosen = dict(Preference.objects.filter(person=person).values_list("kind", "delivery"))
        for kind in Kind:
            self.fields[kind.value] = forms.ChoiceField(
                label=kind.label,
                help_text=EXPLAINED[kind],
                choices=Delivery.choices,
                initial=chosen.get(kind.value, Preference.DEFAULT),
                widget=forms.RadioSelect,
            )

    def save(self) -> None:
        """Store the choices."""
        for kind in Kind:
            Preference.objects.update_or_create(
                person=self._person,
                kind=kind,
                defaults={"delivery": self.cleaned_data[kind.value]},
            )

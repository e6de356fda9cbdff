"""What people type."""

from typing import Any

from django import forms
from django.contrib.auth import get_user_model

from graphs.models import Graph, Group

MAX_NODES = 150
MAX_EDGES = 600
MAX_NAME = 40


class GraphForm(forms.ModelForm):
    """A graph as two lists: nodes one a line, edges as `name - name`."""

    nodes = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false"}),
        max_length=MAX_NODES * (MAX_NAME + 2),
        help_text=f"One name a line, {MAX_NODES} at most.",
    )
    edges = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false"}),
        max_length=MAX_EDGES * (2 * MAX_NAME + 5),
        help_text="One a line: two names with “ - ” between them.",
    )

    class Meta:
        model = Graph
        fields = ["name", "description"]
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["nodes"] = "\n".join(self.instance.data["nodes"])
            self.initial["edges"] = "\n".join(
                f"{one} - {other}" for one, other in self.instance.data["edges"]
            )

    def clean_nodes(self) -> list[str]:
        """Return the names, each once, in the order given."""
        names = list(dict.fromkeys(_lines(self.cleaned_data["nodes"])))
        if len(names) > MAX_NODES:
            raise forms.ValidationError(f"{len(names)} nodes are too many: {MAX_NODES} at most.")
        for name in names:
            if len(name) > MAX_NAME:
                raise forms.ValidationError(f"“{name[:20]}…” is longer than {MAX_NAME} characters.")
            if " - " in name:
                raise forms.ValidationError(f"“{name}” looks like an edge: it belongs below.")
        return names

    def clean_edges(self) -> list[list[str]]:
        """Return the pairs of names, each once."""
        pairs = []
        for line in _lines(self.cleaned_data["edges"]):
            pair = [part.strip() for part in line.split(" - ")]
            if len(pair) != 2:
                raise forms.ValidationError(f"“{line[:80]}” is no pair of names.")
            if pair not in pairs:
                pairs.append(pair)
        if len(pairs) > MAX_EDGES:
            raise forms.ValidationError(f"{len(pairs)} edges are too many: {MAX_EDGES} at most.")
        return pairs

    def clean(self) -> dict[str, Any]:
        """Check that each edge joins two nodes of this graph, and that the name is free."""
        cleaned = super().clean() or self.cleaned_data
        nodes = set(cleaned.get("nodes") or [])
        for pair in cleaned.get("edges") or []:
            for name in pair:
                if nodes and name not in nodes:
                    self.add_error("edges", f"“{name[:MAX_NAME]}” is not among the nodes.")
                    return cleaned
        same = Graph.objects.filter(owner=self.instance.owner_id, name=cleaned.get("name"))
        if same.exclude(pk=self.instance.pk).exists():
            self.add_error("name", "You have a graph of this name already.")
        return cleaned

    def save(self, commit: bool = True) -> Graph:
        """Store the two lists as the graph's data."""
        self.instance.data = {
            "nodes": self.cleaned_data["nodes"],
            "edges": self.cleaned_data["edges"],
        }
        return super().save(commit)


class GroupForm(forms.ModelForm):
    """A new group."""

    class Meta:
        model = Group
        fields = ["name"]


class MemberForm(forms.Form):
    """A person, by name."""

    name = forms.CharField(max_length=150, label="Name of the person")

    def clean_name(self) -> Any:
        """Return the user of that name."""
        users = get_user_model().objects.filter(is_active=True)
        person = users.filter(username=self.cleaned_data["name"]).first()
        if person is None:
            raise forms.ValidationError("Nobody here has that name.")
        return person


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]

"""What people type."""

import json
from typing import Any

from django import forms
from django.contrib.auth import get_user_model

from graphs.models import Graph, Group, Layout

MAX_NODES = 150
MAX_EDGES = 600
MAX_NAME = 40
MAX_UPLOAD = 256 * 1024  # bytes


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
        """Take the two lists as the graph's data, and store the graph unless told not to."""
        self.instance.data = {
            "nodes": self.cleaned_data["nodes"],
            "edges": self.cleaned_data["edges"],
        }
        return super().save(commit)


class UploadForm(forms.Form):
    """A graph as a file: `{"name": …, "nodes": [name, …], "edges": [[name, name], …]}`."""

    file = forms.FileField(
        label="JSON file",
        help_text="An object with name, nodes (a list of names) and edges (a list of pairs).",
        widget=forms.ClearableFileInput(attrs={"accept": ".json,application/json"}),
    )

    def graph_form(self, owner: Any) -> GraphForm:
        """Return the form that the file fills in; it says what is wrong with the content.

        Raises:
            forms.ValidationError: the file is no such object.
        """
        file = self.cleaned_data["file"]
        if file.size > MAX_UPLOAD:
            raise forms.ValidationError(f"The file is larger than {MAX_UPLOAD // 1024} KiB.")
        try:
            data = json.loads(file.read())
            lists = [data.get(name, []) for name in ("nodes", "edges")]
            filled = {
                "name": str(data.get("name", "")),
                "description": str(data.get("description", "")),
                "nodes": "\n".join(map(str, lists[0])),
                "edges": "\n".join(" - ".join(map(str, pair)) for pair in lists[1]),
            }
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise forms.ValidationError("The file is no graph in JSON.") from error
        return GraphForm(filled, instance=Graph(owner=owner))


class LayoutForm(forms.ModelForm):
    """A way to draw a graph."""

    class Meta:
        model = Layout
        fields = ["name", "arrangement"]

    def clean_name(self) -> str:
        """Check that the graph has no other layout of this name."""
        same = Layout.objects.filter(graph=self.instance.graph_id, name=self.cleaned_data["name"])
        if same.exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError("This graph has a layout of that name already.")
        return self.cleaned_data["name"]


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

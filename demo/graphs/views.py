"""The pages of graphs and groups. A change that others are told of is in actions.py."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from graphs import actions
from graphs.drawing import draw
from graphs.forms import GraphForm, GroupForm, MemberForm
from graphs.models import Graph, Group


@login_required
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """List one's own graphs, and those that others share."""
    graphs = Graph.objects.select_related("owner").prefetch_related("groups")
    return render(
        request,
        "graphs/index.html",
        {
            "mine": graphs.filter(owner=request.user),
            "shared": graphs.shared_with(request.user),
        },
    )


@login_required
@require_safe
def graph(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a graph to whoever may see it, and its sharing to its owner."""
    found = get_object_or_404(Graph.objects.visible_to(request.user), pk=pk)
    is_mine = found.owner_id == request.user.pk
    shared = found.groups.all()
    return render(
        request,
        "graphs/graph.html",
        {
            "graph": found,
            "drawing": draw(found.data),
            "is_mine": is_mine,
            # Others learn only of the groups that they belong to themselves.
            "shared": shared if is_mine else shared.filter(members=request.user),
            "others": request.user.graph_groups.exclude(pk__in=shared) if is_mine else [],
        },
    )


@login_required
def create(request: HttpRequest) -> HttpResponse:
    """Make a graph."""
    form = GraphForm(request.POST or None, instance=Graph(owner=request.user))
    if request.method == "POST" and form.is_valid():
        return redirect(form.save())
    return render(request, "graphs/edit.html", {"form": form})


@login_required
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Change one's own graph."""
    found = get_object_or_404(Graph, pk=pk, owner=request.user)
    form = GraphForm(request.POST or None, instance=found)
    if request.method == "POST" and form.is_valid():
        return redirect(form.save())
    return render(request, "graphs/edit.html", {"form": form, "graph": found})


@login_required
@require_POST
def share(request: HttpRequest, pk: int) -> HttpResponse:
    """Share one's own graph with a group that one belongs to."""
    found = get_object_or_404(Graph, pk=pk, owner=request.user)
    group = get_object_or_404(request.user.graph_groups, pk=_number(request, "group"))
    if actions.share(found, group, request.user):
        messages.success(request, f"“{group}” can see this graph now.")
    return redirect(found)


@login_required
@require_POST
def unshare(request: HttpRequest, pk: int) -> HttpResponse:
    """Take one's own graph back from a group."""
    found = get_object_or_404(Graph, pk=pk, owner=request.user)
    group = get_object_or_404(found.groups, pk=_number(request, "group"))
    if actions.unshare(found, group, request.user):
        messages.success(request, f"“{group}” no longer sees this graph.")
    return redirect(found)


@login_required
def groups(request: HttpRequest) -> HttpResponse:
    """List one's groups, and make one."""
    form = GroupForm(request.POST or None, instance=Group(owner=request.user))
    if request.method == "POST" and form.is_valid():
        group = form.save()
        group.members.add(request.user)
        return redirect(group)
    mine = request.user.graph_groups.select_related("owner").prefetch_related("members")
    return render(request, "graphs/groups.html", {"groups": mine, "form": form})


@login_required
def group(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a group to its members; its owner adds people here."""
    found = get_object_or_404(request.user.graph_groups, pk=pk)
    is_mine = found.owner_id == request.user.pk
    form = MemberForm(request.POST if request.method == "POST" and is_mine else None)
    if form.is_bound and form.is_valid():
        person = form.cleaned_data["name"]
        if actions.add_member(found, person, request.user):
            messages.success(request, f"{person} is a member now.")
        return redirect(found)
    return render(
        request,
        "graphs/group.html",
        {
            "group": found,
            "is_mine": is_mine,
            "form": form,
            "members": found.members.order_by("username"),
            "graphs": found.graphs.select_related("owner"),
        },
    )


@login_required
@require_POST
def remove_member(request: HttpRequest, pk: int) -> HttpResponse:
    """Put somebody out of one's own group."""
    found = get_object_or_404(Group, pk=pk, owner=request.user)
    person = get_object_or_404(found.members, pk=_number(request, "person"))
    if actions.remove_member(found, person, request.user):
        messages.success(request, f"{person} is no longer a member.")
    return redirect(found)


def _number(request: HttpRequest, name: str) -> int:
    """Return a posted row id; 0, which no row has, where it is none."""
    value = request.POST.get(name, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0

"""The pages of graphs and groups. A change that others are told of is in actions.py."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from graphs import actions
from graphs.drawing import draw
from graphs.forms import GraphForm, GroupForm, LayoutForm, MemberForm, UploadForm
from graphs.models import Arrangement, Graph, Group, Layout, Watch


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
    layouts = found.layouts.select_related("owner")
    chosen = _number(request.GET.get("layout"))
    layout = next((one for one in layouts if one.pk == chosen), None)
    return render(
        request,
        "graphs/graph.html",
        {
            "graph": found,
            "drawing": draw(found.data, layout.arrangement if layout else Arrangement.SPRINGS),
            "layout": layout,
            "layouts": layouts,
            "watched": Watch.objects.filter(graph=found, person=request.user).exists(),
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
        return redirect(actions.save_graph(form.save(commit=False), request.user))
    return render(request, "graphs/edit.html", {"form": form})


@login_required
def upload(request: HttpRequest) -> HttpResponse:
    """Make a graph of a file. What is wrong with the content is corrected in the form that it fills."""
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            filled = form.graph_form(request.user)
        except ValidationError as error:
            form.add_error("file", error)
        else:
            if not filled.is_valid():
                return render(request, "graphs/edit.html", {"form": filled})
            made = filled.save(commit=False)
            return redirect(actions.save_graph(made, request.user, uploaded=True))
    return render(request, "graphs/upload.html", {"form": form})


@login_required
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Change one's own graph."""
    found = get_object_or_404(Graph, pk=pk, owner=request.user)
    form = GraphForm(request.POST or None, instance=found)
    if request.method == "POST" and form.is_valid():
        return redirect(actions.save_graph(form.save(commit=False), request.user))
    return render(request, "graphs/edit.html", {"form": form, "graph": found})


@login_required
@require_POST
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete one's own graph."""
    found = get_object_or_404(Graph, pk=pk, owner=request.user)
    actions.delete_graph(found, request.user)
    messages.success(request, f"“{found}” is deleted.")
    return redirect("graphs:index")


@login_required
@require_POST
def watch(request: HttpRequest, pk: int) -> HttpResponse:
    """Hear from now on what others do to a graph."""
    found = get_object_or_404(Graph.objects.visible_to(request.user), pk=pk)
    if actions.watch(found, request.user):
        messages.success(request, f"You will hear what others do to “{found}”.")
    return redirect(found)


@login_required
@require_POST
def unwatch(request: HttpRequest, pk: int) -> HttpResponse:
    """Hear no more of it."""
    found = get_object_or_404(Graph.objects.visible_to(request.user), pk=pk)
    if actions.unwatch(found, request.user):
        messages.success(request, f"You no longer watch “{found}”.")
    return redirect(found)


@login_required
def create_layout(request: HttpRequest, pk: int) -> HttpResponse:
    """Give a graph that one may see another way to be drawn."""
    found = get_object_or_404(Graph.objects.visible_to(request.user), pk=pk)
    made = Layout(graph=found, owner=request.user)
    return _edit_layout(request, made)


@login_required
def edit_layout(request: HttpRequest, pk: int) -> HttpResponse:
    """Change one's own layout."""
    visible = Graph.objects.visible_to(request.user)
    found = get_object_or_404(Layout, pk=pk, owner=request.user, graph__in=visible)
    return _edit_layout(request, found)


def _edit_layout(request: HttpRequest, layout: Layout) -> HttpResponse:
    form = LayoutForm(request.POST or None, instance=layout)
    if request.method == "POST" and form.is_valid():
        return redirect(actions.save_layout(form.save(commit=False), request.user))
    return render(request, "graphs/layout.html", {"form": form, "graph": layout.graph})


@login_required
@require_POST
def delete_layout(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete one's own layout."""
    visible = Graph.objects.visible_to(request.user)
    found = get_object_or_404(Layout, pk=pk, owner=request.user, graph__in=visible)
    actions.delete_layout(found, request.user)
    return redirect(found.graph)


@login_required
@require_POST
def share(request: HttpRequest, pk: int) -> HttpResponse:
    """Share one's own graph with a group that one belongs to."""
    found = get_object_or_404(Graph, pk=pk, owner=request.user)
    group = get_object_or_404(request.user.graph_groups, pk=_number(request.POST.get("group")))
    if actions.share(found, group, request.user):
        messages.success(request, f"“{group}” can see this graph now.")
    return redirect(found)


@login_required
@require_POST
def unshare(request: HttpRequest, pk: int) -> HttpResponse:
    """Take one's own graph back from a group."""
    found = get_object_or_404(Graph, pk=pk, owner=request.user)
    group = get_object_or_404(found.groups, pk=_number(request.POST.get("group")))
    if actions.unshare(found, group, request.user):
        messages.success(request, f"“{group}” no longer sees this graph.")
    return redirect(found)


@login_required
def groups(request: HttpRequest) -> HttpResponse:
    """List one's groups, and make one."""
    form = GroupForm(request.POST or None, instance=Group(owner=request.user))
    if request.method == "POST" and form.is_valid():
        return redirect(actions.save_group(form.save(commit=False), request.user))
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
def rename_group(request: HttpRequest, pk: int) -> HttpResponse:
    """Give one's own group another name."""
    found = get_object_or_404(Group, pk=pk, owner=request.user)
    form = GroupForm(request.POST or None, instance=found)
    if request.method == "POST" and form.is_valid():
        return redirect(actions.save_group(form.save(commit=False), request.user))
    return render(request, "graphs/rename.html", {"form": form, "group": found})


@login_required
@require_POST
def delete_group(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete one's own group."""
    found = get_object_or_404(Group, pk=pk, owner=request.user)
    actions.delete_group(found, request.user)
    messages.success(request, f"The group “{found}” is deleted.")
    return redirect("graphs:groups")


@login_required
@require_POST
def remove_member(request: HttpRequest, pk: int) -> HttpResponse:
    """Put somebody out of one's own group."""
    found = get_object_or_404(Group, pk=pk, owner=request.user)
    person = get_object_or_404(found.members, pk=_number(request.POST.get("person")))
    if actions.remove_member(found, person, request.user):
        messages.success(request, f"{person} is no longer a member.")
    return redirect(found)


def _number(value: str | None) -> int:
    """Return a row id that a browser sent; 0, which no row has, where it is none."""
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 19 else 0

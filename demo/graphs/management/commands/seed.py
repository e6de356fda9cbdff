"""`manage.py seed`: three people, two groups and a few graphs to look at."""

import os
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from graphs.models import Graph, Group, Share

PEOPLE = ["ada", "grace", "linus"]
GROUPS = {"Cell biology": ("ada", ["ada", "grace"]), "Everybody": ("grace", PEOPLE)}
GRAPHS = [
    (
        "ada",
        "p53 and its neighbours",
        "A few proteins that the tumour suppressor p53 meets.",
        "TP53-MDM2 TP53-ATM TP53-CDKN1A TP53-BAX MDM2-MDM4 ATM-CHEK2 CHEK2-TP53 BAX-BCL2 "
        "CDKN1A-CDK2",
        ["Cell biology"],
    ),
    (
        "grace",
        "A compiler's passes",
        "What is handed from one to the next.",
        "source-lexer lexer-parser parser-tree tree-checker checker-optimiser optimiser-generator",
        ["Everybody"],
    ),
    (
        "linus",
        "Repositories",
        "Who pulls from whom.",
        "main-network main-storage main-sound network-wireless network-drivers storage-drivers",
        [],
    ),
]
VARIABLE = "SEED_PASSWORD"


class Command(BaseCommand):
    """Make what is missing; what is there stays as it is, passwords too."""

    help = "Make three people (ada, grace, linus), two groups and three graphs, where missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the option."""
        parser.add_argument(
            "--password",
            help=f"what the people sign in with; the variable {VARIABLE} keeps it out of the "
            "list of processes",
        )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Make what is missing, and say what that was."""
        users = get_user_model().objects
        missing = [name for name in PEOPLE if not users.filter(username=name).exists()]
        password = options["password"] or os.environ.get(VARIABLE)
        if missing and not password:
            raise CommandError(
                f"{VARIABLE} is empty: nobody could sign in. Set it, or give --password."
            )
        for name in missing:
            users.create_user(name, password=password)
        people = {person.username: person for person in users.filter(username__in=PEOPLE)}
        made = len(missing)
        for name, (owner, members) in GROUPS.items():
            group, is_new = Group.objects.get_or_create(
                name=name, defaults={"owner": people[owner]}
            )
            if is_new:
                group.members.set([people[member] for member in members])
                made += 1
        for owner, name, description, text, groups in GRAPHS:
            edges = [pair.split("-") for pair in text.split()]
            nodes = list(dict.fromkeys(node for pair in edges for node in pair))
            graph, is_new = Graph.objects.get_or_create(
                owner=people[owner],
                name=name,
                defaults={"description": description, "data": {"nodes": nodes, "edges": edges}},
            )
            if is_new:
                for group_name in groups:
                    Share.objects.create(graph=graph, group=Group.objects.get(name=group_name))
                made += 1
        self.stdout.write(f"seed: {made} made" if made else "seed: nothing to do")

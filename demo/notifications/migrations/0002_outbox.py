"""A sequence for each recipient, the state of the outbox, preferences, and who holds sockets."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

KINDS = [("owner", "Mine"), ("group", "My groups"), ("watching", "What I watch")]


def number(apps, schema_editor):
    """Give what is there its sequences, in the order it was written, and take it as sent."""
    using = schema_editor.connection.alias
    rows = apps.get_model("notifications", "Notification").objects.using(using)
    last = {}
    for pk, person in rows.order_by("pk").values_list("pk", "recipient").iterator():
        last[person] = last.get(person, 0) + 1
        rows.filter(pk=pk).update(sequence=last[person], state="sent")
    inbox = apps.get_model("notifications", "Inbox")
    inbox.objects.using(using).bulk_create(
        inbox(person_id=person, last_sequence=sequence, mailed_sequence=sequence)
        for person, sequence in last.items()
    )


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("notifications", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Inbox",
            fields=[
                (
                    "person",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("last_sequence", models.BigIntegerField(default=0)),
                ("mailed_sequence", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Preference",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.CharField(choices=KINDS, max_length=16)),
                (
                    "delivery",
                    models.CharField(
                        choices=[
                            ("off", "Not at all"),
                            ("site", "On this site"),
                            ("mail", "On this site, and in a nightly e-mail while unread"),
                        ],
                        default="mail",
                        max_length=8,
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=["person", "kind"], name="preference_once_per_kind"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Holder",
            fields=[
                (
                    "name",
                    models.CharField(max_length=100, primary_key=True, serialize=False),
                ),
                ("seen_at", models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.CreateModel(
            name="Held",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("sockets", models.PositiveIntegerField(default=0)),
                (
                    "holder",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="held",
                        to="notifications.holder",
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=["holder", "person"], name="held_once_per_person"
                    )
                ],
            },
        ),
        migrations.AlterField(
            model_name="notification",
            name="kind",
            field=models.CharField(choices=KINDS, max_length=16),
        ),
        migrations.AlterField(
            model_name="notification",
            name="created_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False),
        ),
        migrations.AddField(
            model_name="notification",
            name="sequence",
            field=models.BigIntegerField(default=0, editable=False),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="notification",
            name="state",
            field=models.CharField(
                choices=[
                    ("pending", "waits for Kafka"),
                    ("sent", "Kafka has it"),
                    ("refused", "no record can be made of it"),
                ],
                default="pending",
                editable=False,
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="notification",
            name="attempts",
            field=models.PositiveIntegerField(default=0, editable=False),
        ),
        migrations.AddField(
            model_name="notification",
            name="due_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False),
        ),
        migrations.RunPython(number, migrations.RunPython.noop),
        migrations.RemoveIndex(model_name="notification", name="notification_by_recipient"),
        migrations.RemoveIndex(model_name="notification", name="notification_unread"),
        migrations.AlterField(
            model_name="notification",
            name="recipient",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="notifications",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddConstraint(
            model_name="notification",
            constraint=models.UniqueConstraint(
                fields=["recipient", "sequence"], name="notification_sequence"
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("read_at__isnull", True)),
                fields=["recipient", "sequence"],
                name="notification_unread_after",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("state", "pending")),
                fields=["due_at"],
                name="notification_pending",
            ),
        ),
    ]

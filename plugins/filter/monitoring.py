"""The files of Prometheus, Alertmanager and the blackbox exporter, and what is added to their units."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

SERVER = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")
LOOPBACK = re.compile(r"127(?:\.[0-9]{1,3}){3}|localhost|\[::1\]")
IMPLICIT_TLS = "465"  # RFC 8314, section 3.3: there is no STARTTLS after it
SIGN_OF_LIFE = ".host"  # a module of the blackbox exporter; no site has such a name
# Answers of a site that is well: a page, the way to one, or to a sign-in.
WELL = [200, 204, 301, 302, 303, 307, 308, 401]
# The same of a site that is closed for maintenance, as the Apache of a web host behind a balancer says it.
CLOSED: dict[str, Any] = {
    "valid_status_codes": [503],
    "fail_if_header_not_matches": [{"header": "Switchboard-Closed", "regexp": "^maintenance$"}],
}
# What follows from a broker or a site that is down is not mailed beside it; what both have to have alike.
INHIBITED = {
    "ZooKeeperWithoutQuorum": (
        ["KafkaDown", "KafkaWithoutLeader", "OutboxOld", "ConsumerLag"],
        ["host"],
    ),
    "KafkaDown": (["KafkaWithoutLeader", "OutboxOld", "ConsumerLag"], ["host"]),
    "SiteDown": (["SiteSlow", "SiteErrors"], ["host", "site"]),
    "BalancerDown": (["SiteDown", "SiteSlow"], ["host"]),
    # what is asked by the balancer has the label `proxy`, as its backends have
    "SiteWithoutHost": (["SiteDown", "SiteSlow"], ["host", "site", "proxy"]),
}
# What HAProxy tells is filtered to what the alerts and the console use, its backends by their sites.
OF_A_BALANCER: dict[str, Any] = {
    "params": {"scope": ["global", "backend", "server"]},
    "metric_relabel_configs": [
        {
            "source_labels": ["__name__", "state"],
            "regex": "haproxy_(process_(current|max)_connections|backend_active_servers);|haproxy_server_status;DOWN",
            "action": "keep",
        },
        {"source_labels": ["proxy"], "regex": r"acme\.challenges", "action": "drop"},
        {"source_labels": ["proxy"], "regex": r"([^.]+)(\.sockets)?", "target_label": "site"},
    ],
}
# What a site's own metrics may be, which it writes itself: so many, so large, and none of the names that others have.
OF_A_SITE: dict[str, Any] = {
    "honor_timestamps": False,
    "sample_limit": 5000,
    "body_size_limit": "2MB",
    "label_limit": 30,
    "label_name_length_limit": 200,
    "label_value_length_limit": 500,
    "metric_relabel_configs": [
        {
            "source_labels": ["__name__"],
            "regex": "(switchboard|node|probe|pg|apache|haproxy|alertmanager|prometheus|scrape)_.*|up|ALERTS.*",
            "action": "drop",
        }
    ],
}
PAGE = "docs/alerts.md"
TEXT = """{{ range .Alerts }}{{ .Status }}: {{ .Annotations.summary }}
since {{ .StartsAt.UTC.Format "2006-01-02 15:04:05" }} UTC{{ if eq .Status "resolved" }} until \
{{ .EndsAt.UTC.Format "2006-01-02 15:04:05" }} UTC{{ end }}
What to do: %s#{{ .Labels.alertname | toLower }}

{{ end }}"""
SUBJECT = (
    "[{{ .Status }}] {{ .CommonLabels.host }}: {{ .GroupLabels.alertname }}"
    "{{ with .GroupLabels.site }} ({{ . }}){{ end }}"
)


def monitoring_wanted(programs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the programs that have something to ask on this host."""
    return [dict(one) for one in programs if one.get("wanted", True)]


def monitoring_ports(programs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the ports of the programs, as the module host_look asks for them."""
    return [
        {
            "variable": one["variable"],
            "port": int(one["port"]),
            "address": "127.0.0.1",
            "unit": f"{one['name']}.service",
        }
        for one in programs
    ]


def monitoring_lacking(present: Mapping[str, bool]) -> list[str]:
    """Return the packages whose program, which has the same name, is not there."""
    programs = {path: there for path, there in present.items() if path.startswith("/usr/bin/")}
    return [path.rpartition("/")[2] for path, there in programs.items() if not there]


def monitoring_targets(programs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Map the job of each program to where it tells of itself and of what it asks."""
    return {one["job"]: f"127.0.0.1:{one['port']}" for one in programs}


def monitoring_inputs(programs: Sequence[Mapping[str, Any]], folder: str) -> list[dict[str, Any]]:
    """Return the units with what each reads when it begins, for the module host_units."""
    more = {
        "prometheus": [f"{folder}/rules.yml", f"{folder}/central.password"],
        "prometheus-alertmanager": [f"{folder}/smtp.password"],
    }
    return [
        {
            "name": one["name"],
            "unit": f"{one['name']}.service",
            "paths": [
                f"/etc/systemd/system/{one['name']}.service.d/switchboard.conf",
                *one.get("needs", []),
                *more.get(one["name"], []),
            ],
        }
        for one in programs
    ]


def monitoring_unit(program: Mapping[str, Any], sandbox: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is added to the unit of a Debian package: where it listens, what it may, how much memory it takes.

    Args:
        program: name, arguments, memory in MiB, and optionally ``needs`` (paths) and ``unit`` (directives of its own).
        sandbox: the directives that hold for each.
    """
    memory, own = int(program["memory"]), dict(program.get("unit", {}))
    words = " ".join(str(program["arguments"]).split())
    service = {
        **sandbox,
        # an empty one takes back what Debian's unit says
        "EnvironmentFile": "",
        "ExecStart": ["", f"/usr/bin/{program['name']} {words}"],
        "MemoryMax": f"{memory * 2}M",
        **own,
        "Environment": [f"GOMEMLIMIT={memory}MiB", *own.get("Environment", [])],
    }
    needs = list(program.get("needs", []))
    return {"Unit": {"ConditionPathExists": needs or None}, "Service": service}


def monitoring_alerts(
    rules: Mapping[str, Any], thresholds: Mapping[str, Any], holds: Mapping[str, str]
) -> dict[str, Any]:
    """Return the rules of Prometheus (its documentation, "Alerting rules").

    Args:
        rules: ``thresholds``, and ``alerts`` by their names, each with expr, for, severity and summary. In an
            expression ``$name`` is a threshold; in a summary ``<label>`` is a label and ``<value>`` the value.
        thresholds: those that differ.
        holds: how long a state has to last, where that differs, by the alert's name.
    """
    limits = {**rules["thresholds"], **thresholds}
    alerts = [
        {
            "alert": name,
            "expr": " ".join(Template(alert["expr"]).substitute(limits).split()),
            "for": holds.get(name, alert["for"]),
            "labels": {"severity": alert["severity"]},
            "annotations": {"summary": _summary(alert["summary"], limits)},
        }
        for name, alert in rules["alerts"].items()
    ]
    return {"groups": [{"name": "switchboard", "rules": alerts}]}


def _summary(text: str, limits: Mapping[str, Any]) -> str:
    text = Template(text).substitute(limits).replace("<value>", "{{ $value | humanize }}")
    return re.sub(r"<(\w+)>", r"{{ $labels.\1 }}", text)


def monitoring_prometheus(
    settings: Mapping[str, Any],
    sites: Sequence[Mapping[str, Any]],
    balanced: Sequence[Mapping[str, Any]] = (),
    peers: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the configuration of Prometheus.

    Args:
        settings: interval, host (the name of this one), alertmanager, blackbox and balancer (address:port, the last one
            empty without one), targets: where each job's metrics are, by the job's name, and send_to, send_ca and
            send_password_file.
        sites: the complete sites.
        balanced: the sites that are asked by the balancer of this host, each with name, url, host and path.
        peers: the hosts that are asked for a sign of life, each with name and address.
    """
    jobs: list[dict[str, Any]] = [
        {"job_name": job, "static_configs": [{"targets": [target]}]}
        for job, target in settings["targets"].items()
    ]
    own = [
        {"targets": list(site["metrics"]), "labels": {"site": site["name"]}}
        for site in sites
        if site["metrics"]
    ]
    if own:
        jobs.append({"job_name": "site_metrics", "static_configs": own, **OF_A_SITE})
    if settings["balancer"]:
        place = [{"targets": [settings["balancer"]]}]
        jobs.append({"job_name": "balancer", "static_configs": place, **OF_A_BALANCER})
    asked = [_asked(site, site["name"]) for site in sites]
    asked += [_asked(site, f"{site['name']}.balancer", proxy=site["name"]) for site in balanced]
    closed = [_asked(site, f"{site['name']}.closed") for site in balanced]
    hosts = [
        {
            "targets": [one["address"]],
            "labels": {"peer": one["name"], "__param_module": SIGN_OF_LIFE},
        }
        for one in peers
    ]
    relabel = [
        {"source_labels": ["__address__"], "target_label": "__param_target"},
        {"source_labels": ["__param_target"], "target_label": "instance"},
        {"target_label": "__address__", "replacement": settings["blackbox"]},
    ]
    jobs += [
        {
            "job_name": job,
            "metrics_path": "/probe",
            "static_configs": places,
            "relabel_configs": relabel,
        }
        for job, places in (("site", asked), ("site_closed", closed), ("host", hosts))
        if places
    ]
    sent = [_sent(place, settings) for place in settings["send_to"]]
    return {
        **({"remote_write": sent} if sent else {}),
        "global": {
            "scrape_interval": settings["interval"],
            "scrape_timeout": _shorter(settings["interval"]),
            "evaluation_interval": settings["interval"],
            "external_labels": {"host": settings["host"]},
        },
        "rule_files": ["rules.yml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [settings["alertmanager"]]}]}]
        },
        "scrape_configs": jobs,
    }


def _sent(place: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how all that is measured is sent to another Prometheus; what it misses while it is down comes later."""
    return {
        **place,
        "basic_auth": {"username": "hosts", "password_file": settings["send_password_file"]},
        "tls_config": {"ca_file": settings["send_ca"]},
        # not 200: a host has some hundred numbers a second at most
        "queue_config": {"max_shards": 4},
    }


def _asked(site: Mapping[str, Any], module: str, **labels: str) -> dict[str, Any]:
    """Return where the blackbox exporter asks for a site, and by which of its modules."""
    return {
        "targets": [f"{site['url']}{site['path']}"],
        "labels": {"site": site["name"], "__param_module": module, **labels},
    }


def _shorter(interval: str) -> str:
    """Return how long an answer may take: 10 s, or the interval where that is shorter."""
    seconds = re.fullmatch(r"([0-9]+)s", interval)
    return interval if "ms" in interval or (seconds and int(seconds[1]) < 10) else "10s"


def monitoring_blackbox(
    sites: Sequence[Mapping[str, Any]], balanced: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return the configuration of the blackbox exporter: modules that ask by a site's name, and one for hosts.

    Who signed a certificate is not looked at, since it may be the user's own CA; when it ends is. A site that is asked
    by the balancer has a second module, for which it is well when it is closed for maintenance.
    """
    modules = {site["name"]: _module(site) for site in sites}
    modules[SIGN_OF_LIFE] = {"prober": "icmp", "timeout": "5s"}
    for site in balanced:
        modules[f"{site['name']}.balancer"] = _module(site)
        modules[f"{site['name']}.closed"] = _module(site, **CLOSED)
    return {"modules": modules}


def _module(site: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    host = site["host"] or site["name"]
    http: dict[str, Any] = {
        "headers": {"Host": host},
        "follow_redirects": False,
        "valid_status_codes": WELL,
        "preferred_ip_protocol": "ip4",
        **more,
    }
    if site.get("forwarded_proto"):  # a balancer's own probes have none
        http["headers"]["X-Forwarded-Proto"] = site["forwarded_proto"]
    if site["url"].startswith("https:"):
        http["tls_config"] = {"server_name": host, "insecure_skip_verify": True}
    return {"prober": "http", "timeout": "9s", "http": http}


def monitoring_alertmanager(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of Alertmanager: one mail for the alerts of one name of a site.

    Args:
        settings: mail_to, mail_from, smtp, smtp_user, password_file, group_wait, group_interval, repeat_interval.
    """
    server = SERVER.fullmatch(str(settings["smtp"]))
    mail: dict[str, Any] = {
        "to": settings["mail_to"],
        "from": settings["mail_from"],
        "smarthost": settings["smtp"],
        # STARTTLS, that is
        "require_tls": not (
            server and (LOOPBACK.fullmatch(server[1]) or server[2] == IMPLICIT_TLS)
        ),
        "send_resolved": True,
        "headers": {"Subject": SUBJECT},
        "html": "",
        "text": TEXT % PAGE,
    }
    if settings["smtp_user"]:
        mail["auth_username"] = settings["smtp_user"]
        mail["auth_password_file"] = settings["password_file"]
    return {
        "route": {
            "receiver": "mail",
            "group_by": ["alertname", "site"],
            "group_wait": settings["group_wait"],
            "group_interval": settings["group_interval"],
            "repeat_interval": settings["repeat_interval"],
        },
        "inhibit_rules": [
            {
                "source_matchers": [f'alertname="{cause}"'],
                "target_matchers": [f'alertname=~"{"|".join(names)}"'],
                "equal": equal,
            }
            for cause, (names, equal) in INHIBITED.items()
        ],
        "receivers": [{"name": "mail", "email_configs": [mail]}],
    }


def verify_word(report: Mapping[str, Any], host: str) -> str:
    """Return what the metrics are to know of a verify, as JSON: when it was, bad checks, tasks that drifted.

    Args:
        report: as `make verify` writes it (docs/verify.md, "The data").
        host: the name of a host; of one that was not looked at nothing new is known, and the text is empty.
    """
    own = next((one for one in report["hosts"] if one["name"] == host), None)
    if own is None:
        return ""
    drift = own.get("drift")
    bad = [one for one in report["checks"] if one["host"] == host and one["result"] == "bad"]
    tasks = None if drift is None else len([one for one in drift if not one["handler"]])
    return json.dumps({"at": report["started"], "bad": len(bad), "drift": tasks})


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Map each filter's name to its function."""
        return {
            "monitoring_alertmanager": monitoring_alertmanager,
            "monitoring_alerts": monitoring_alerts,
            "monitoring_blackbox": monitoring_blackbox,
            "monitoring_inputs": monitoring_inputs,
            "monitoring_lacking": monitoring_lacking,
            "monitoring_ports": monitoring_ports,
            "monitoring_prometheus": monitoring_prometheus,
            "monitoring_targets": monitoring_targets,
            "monitoring_unit": monitoring_unit,
            "monitoring_wanted": monitoring_wanted,
            "verify_word": verify_word,
        }

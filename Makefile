# Switchboard: the commands of the control node. `make` alone lists them.
PYTHON ?=
INVENTORY ?= inventory/demo
STEPS ?=
HOST ?=
OPTIONS ?=
WHEN ?= daily
MAIL ?=
export PYTHON

tool = python3 -m tools
of_site = $(if $(SITE),-e site=$(SITE))
active = . .venv/bin/activate && ANSIBLE_CONFIG=$(CURDIR)/ansible.cfg $(vault)
# what `make secrets` made, where the environment names no other
made_password = $(INVENTORY)/.private/vault-password
vault = $(if $(ANSIBLE_VAULT_PASSWORD_FILE),,$(if $(wildcard $(made_password)),ANSIBLE_VAULT_PASSWORD_FILE=$(made_password)))

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests demo demo-down onboard secrets deploy rollback releases maintenance backup backups restore test soak lint verify verify-timer bench-deploy \
  bench-kafka bench-notifications bench-web lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Prepare this machine to manage servers: .venv, git, Maven, rsync, ssh (PYTHON=python3.12 picks another Python)
	@$(tool).setup --control

setup-tests: ## Prepare it for test hosts too: Docker engine, images
	@$(tool).setup --tests

demo: ## Start a throw-away server and deploy the demonstration site: http://127.0.0.1:8080/
	@$(tool).demo up

demo-down: ## Remove that server
	@$(tool).demo down

test: ## Prove everything; it takes about an hour on 2 cores (STEPS="lint unit" runs some of it)
	@$(tool).test $(STEPS)

soak: ## The long forms of the tests, and what `make test` asks of one Debian alone
	@SWITCHBOARD_SOAK=1 $(tool).test default debian12 single seed upgrade drill onboarding postgresql cluster web \
	  whole kraft kraft-cluster

lint: ## Check style and types alone
	@$(tool).test lint

onboard: INVENTORY = inventory/lab
onboard: setup ## From the provider's log-in to a server of an inventory (HOST=192.0.2.10 INVENTORY=inventory/lab)
	@mkdir -p $(INVENTORY) && { ls $(INVENTORY)/*.yml >/dev/null 2>&1 || echo 'switchboard:' > $(INVENTORY)/hosts.yml; }
	@$(active) ANSIBLE_LOCALHOST_WARNING=False ansible-playbook -i $(INVENTORY) playbooks/onboard.yml \
	  $(if $(HOST),-e onboard_host=$(HOST)) $(OPTIONS)

secrets: setup ## Make the passwords and keys that an inventory lacks, encrypted beside it (INVENTORY=inventory/lab)
	@$(active) python3 -m tools.secrets --inventory="$(INVENTORY)"

deploy: setup ## Release the code of a site (INVENTORY=inventory/lab SITE=lab; without SITE, of each)
	@$(active) ansible-playbook -i $(INVENTORY) playbooks/deploy.yml $(of_site)

rollback: setup ## Serve an earlier release again (SITE=lab, TO=id, MIGRATIONS=keep or reverse)
	@$(active) ansible-playbook -i $(INVENTORY) playbooks/rollback.yml $(of_site) \
	  $(if $(TO),-e to=$(TO)) $(if $(MIGRATIONS),-e migrations=$(MIGRATIONS))

releases: setup ## List the releases on the servers (SITE=lab for one site)
	@$(active) ansible-playbook -i $(INVENTORY) playbooks/releases.yml $(of_site)

maintenance: setup ## Close a site, or open it again (SITE=lab STATE=on or off)
	@$(active) ansible-playbook -i $(INVENTORY) playbooks/maintenance.yml $(of_site) $(if $(STATE),-e state=$(STATE))

backup: setup ## Make a snapshot of each site now (SITE=lab for one site)
	@$(active) ansible-playbook -i $(INVENTORY) playbooks/backup_now.yml $(of_site)

backups: setup ## List the snapshots (SITE=lab for one site)
	@$(active) ansible-playbook -i $(INVENTORY) playbooks/restore.yml -e list=true $(of_site)

restore: setup ## Bring a site back to a snapshot (SITE=lab AT=id or 2026-11-28T18:00; without AT, the newest)
	@$(active) ansible-playbook -i $(INVENTORY) playbooks/restore.yml $(of_site) $(if $(AT),-e at=$(AT)) $(OPTIONS)

verify: setup ## Run the harmless tests against the servers of an inventory (INVENTORY=inventory/lab)
	@$(active) python3 -m tools.verify --tell --inventory="$(INVENTORY)"

verify-timer: setup ## Let systemd here verify at set times (INVENTORY=… WHEN=daily|"Mon 06:00"|never MAIL=ops@example.org)
	@$(tool).verify_timer set --inventory="$(INVENTORY)" --when="$(WHEN)" --mail="$(MAIL)"

bench-deploy: setup-tests ## Measure deployments over SSH: a table and build/bench/deploy.json
	@$(active) python3 -m tools.bench_deploy

bench-kafka: setup-tests ## Measure one broker and three beside Kafka's own tools: a table and build/bench/kafka.json
	@$(active) python3 -m tools.bench_kafka

bench-notifications: setup-tests ## Measure how soon a change shows: a table, build/bench/notifications.json, a plot
	@$(active) python3 -m tools.bench_notifications

bench-web: setup-tests ## Measure pages, sockets and reloads beside nginx and others: a table, build/bench/web.json, plots
	@$(active) python3 -m tools.bench_web

lock: setup ## Resolve requirements/*.in anew for each Python
	@$(tool).lock

clean: ## Remove what was built here; images, caches and the demo stay
	@rm -rf build .venv .venv-*

# What a person or a build server runs. `make` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help build run test check fuzz bench bench-crypto dist notices vuln lab-browser lab-rtsp lab-mqtt lab-turn lab-guest lab-arm64 lab-dist lab-soak lab-soak-race lab-lossy clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/edged for this machine, static
	@scripts/build

run: build ## build, and serve the test pattern and every camera found
	bin/edged

test: ## install what the tests need, then run all of them
	scripts/setup
	scripts/test

check: ## formatting, vet, staticcheck, go.mod, NOTICE
	scripts/check

fuzz: ## every fuzz test for FUZZTIME (10s) each
	scripts/fuzz $(FUZZTIME)

bench: ## what a forwarded packet costs beside plain pion and Janus, what Chromium sees, and which targets hold: ten minutes
	scripts/bench/run

bench-crypto: ## what protecting a packet costs, with and without the CPU's AES instructions
	@scripts/bench/crypto

dist: ## dist/edged-linux-{amd64,arm64,armv7,armv6}, static and stripped
	scripts/setup dist
	scripts/dist

notices: ## write NOTICE anew, from what is linked in
	go run ./scripts/notices

vuln: ## known vulnerabilities of what is linked in; needs the database at vuln.go.dev
	go run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./cmd/edged

lab-browser: ## laboratory: Chromium and Firefox as viewers
	go test -count=1 -v ./internal/lab/browser/...

lab-rtsp: ## laboratory: the RTSP servers of GStreamer and VLC as the camera, each killed and started again 20 times
	EDGED_TEST_RESTARTS=20 go test -count=1 -v ./internal/lab/rtsp/...

lab-mqtt: ## laboratory: Mosquitto as the broker
	go test -count=1 -v ./internal/lab/mqtt/...

lab-turn: ## laboratory: coturn's clients against the TURN server
	go test -count=1 -v ./internal/lab/turn/...

lab-guest: ## laboratory: a QEMU guest with V4L2 cameras and a sound card
	go test -count=1 -v ./internal/lab/guest/...

lab-arm64: ## laboratory: the same cameras in an arm64 guest
	scripts/setup arm64
	EDGED_LAB_ARM64=1 go test -count=1 -timeout 20m -v -run ARM64 ./internal/lab/guest/...

lab-soak: build ## laboratory: 200 viewers for ten minutes, nobody misses a frame, memory is flat (SOAK='-n 50 -for 1m' for less)
	go run ./scripts/bench/soak $(SOAK)

lab-soak-race: ## laboratory: 20 viewers for a minute, with the race detector in the box
	go build -race -o .cache/bench/edged-race ./cmd/edged
	go run ./scripts/bench/soak -edged .cache/bench/edged-race -n 20 -for 1m $(SOAK)

lab-lossy: build ## laboratory: bad links; Chromium's freezes beside those of plain pion, 14 minutes (LOSSY='-only drop' for less)
	CGO_ENABLED=1 go build -o .cache/bench/baseline-live ./scripts/bench/baseline
	go run ./scripts/bench/lossy $(LOSSY)

lab-dist: ## laboratory: the ARM binaries under user-mode emulation
	go test -count=1 -v ./internal/lab/dist/...

clean: ## remove what was built; .cache stays
	rm -rf bin dist

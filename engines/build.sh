#!/bin/sh
# Makes the demo engine from the simulator alone: composes, trains, exports, evaluates.
# Engines never change: where engines/bga/2 is already, it is made again under results/ to compare.
set -eu
out=engines/bga/2
if [ -e "$out" ]; then
    rm -rf results/engines
    out=results/engines/bga/2
fi
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
edge-inspector compose --simulated --out "$data/set" --train 1500 --validation 400 --good 600 \
    --per-class 60 --seed 1 \
    --kinds missing,extra,pitch,size,bridge,scratch,stain,small_pitch,small_size
edge-inspector train anomaly --data "$data/set/data.csv" --model sensitive --out "$out" --seed 1 --threads 1
edge-inspector evaluate "$out" --data "$data/set/data.csv" --json "$out.json"
echo "made $out, its figures are in $out.json; those in git are in engines/bga/2.json"

#!/bin/sh
# Makes the demo engine from the simulator alone: composes, trains, exports, quantises, evaluates.
# Engines never change: where engines/bga/3 is already, it is made again under results/ to compare.
set -eu
out=engines/bga/3
if [ -e "$out" ]; then
    rm -rf results/engines
    out=results/engines/bga/3
fi
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
edge-inspector compose --simulated --out "$data/set" --train 1500 --validation 400 --good 600 \
    --per-class 60 --seed 1 \
    --kinds missing,extra,pitch,size,bridge,scratch,stain,small_pitch,small_size
edge-inspector train anomaly --data "$data/set/data.csv" --model sensitive --out "$data/bga/2" --seed 1 --threads 1
edge-inspector engine quantise "$data/bga/2" --data "$data/set/data.csv" --out "$out"
edge-inspector evaluate "$out" --data "$data/set/data.csv" --backend openvino --json "$out.json"
edge-inspector evaluate "$out" --data "$data/set/data.csv" --backend openvino:int8 --json "$out.int8.json"
echo "made $out, its figures are in $out.json and $out.int8.json; those in git are in engines/bga"

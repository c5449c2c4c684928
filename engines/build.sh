#!/bin/sh
# Makes the demo engine from the simulator alone: composes, trains, exports, quantises, evaluates.
# Engines never change: where engines/bga/3 is already, both are made again under results/ to compare.
set -eu
out=engines/bga
if [ -e "$out/3" ]; then
    rm -rf results/engines
    out=results/engines/bga
fi
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
edge-inspector compose --simulated --out "$data/set" --train 1500 --validation 400 --good 600 \
    --per-class 60 --seed 1 \
    --kinds missing,extra,pitch,size,bridge,scratch,stain,small_pitch,small_size
edge-inspector train anomaly --data "$data/set/data.csv" --model sensitive --out "$out/2" --seed 1 --threads 1
edge-inspector engine quantise "$out/2" --data "$data/set/data.csv" --out "$out/3"
edge-inspector evaluate "$out/3" --data "$data/set/data.csv" --backend openvino --json "$out/3.json"
edge-inspector evaluate "$out/3" --data "$data/set/data.csv" --backend openvino:int8 \
    --json "$out/3.int8.json"
echo "made $out/3, its figures are in $out/3.json and 3.int8.json; those in git are in engines/bga"

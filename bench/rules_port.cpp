// The per-ball part of edge_inspector/rules/balls.py in C++: places the grid by its blobs, measures
// every ball, fits the grid again. What OpenCV does (closing, Otsu, blobs) stays where it is.
// Same arithmetic, so that `rules_port.py` gives the scores of the Python it is compared with.

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

using Place = std::complex<double>;

struct Rules {
    int32_t side, reach, balls, gaps, cores, corners;
    double match_px, least, least_area, most_area, inlier_px, min_contrast, edge, missing;
    const Place *nodes;
    const int64_t *first, *second;    // balls on either side of a gap
    const int32_t *core, *corner;     // entries of a window
};

struct Placement {
    Place turn{1, 0}, offset{0, 0};
    Place of(Place node) const { return turn * node + offset; }
};

template <typename T> static double median(std::vector<T> values) {
    const size_t half = values.size() / 2;
    std::nth_element(values.begin(), values.begin() + half, values.end());
    const double high = values[half];
    if (values.size() % 2) return high;
    return (high + *std::max_element(values.begin(), values.begin() + half)) / 2;
}

static double median_grey(const int64_t *counts, int64_t total) {
    int64_t seen = 0;
    int low = -1;
    for (int grey = 0; grey < 256; grey++) {
        seen += counts[grey];
        if (low < 0 && seen > (total - 1) / 2) low = grey;
        if (seen > total / 2) return (low + grey) / 2.0;
    }
    return low;
}

static Placement fit(const std::vector<Place> &ideal, const std::vector<Place> &found, double inlier_px) {
    const size_t count = ideal.size();
    std::vector<double> x(count), y(count);
    for (size_t n = 0; n < count; n++) {
        x[n] = (found[n] - ideal[n]).real();
        y[n] = (found[n] - ideal[n]).imag();
    }
    Placement placement;
    placement.offset = {median(x), median(y)};
    for (double reach : {2 * inlier_px, inlier_px, inlier_px}) {
        Place from{0, 0}, to{0, 0}, product{0, 0};
        double square = 0;
        size_t near = 0;
        std::vector<char> kept(count);
        for (size_t n = 0; n < count; n++) {
            kept[n] = std::abs(found[n] - placement.of(ideal[n])) <= reach;
            if (kept[n]) near++, from += ideal[n], to += found[n];
        }
        if (near < 4) return placement;
        from /= double(near), to /= double(near);
        for (size_t n = 0; n < count; n++) {
            if (!kept[n]) continue;
            const Place centred = ideal[n] - from;
            product += std::conj(centred) * (found[n] - to);
            square += std::norm(centred);
        }
        placement.turn = product / square;
        placement.offset = to - placement.turn * from;
    }
    return placement;
}

static int mirrored(int at, int side) { return at < 0 ? -at : at >= side ? 2 * side - 2 - at : at; }

static double blurred(const uint8_t *closed, int side, int x, int y) {
    int sum = 0;
    for (int down = -1; down <= 1; down++)
        for (int across = -1; across <= 1; across++)
            sum += closed[mirrored(y + down, side) * side + mirrored(x + across, side)];
    return std::nearbyint(sum / 9.0);
}

static int rounded(double value, int low, int high) {
    return int(std::min(std::max(std::nearbyint(value), double(low)), double(high)));
}

// `stats` as OpenCV gives them, five a blob, `middles` x and y; `out`: body, contrast, area, turn,
// offset, then at, centre (balls), gap_at (gaps) as x and y, then fill, off_px, elongation, gap.
// 0 when no grid is found: the Python says why.
extern "C" int measure(const Rules *rules, const uint8_t *closed, int blobs, const int32_t *stats,
                       const double *middles, double left, double top, double *out) {
    const Rules &r = *rules;
    std::vector<Place> ideal, found;
    int sized = 0;
    for (int blob = 1; blob < blobs; blob++) {
        const double area = stats[5 * blob + 4];
        if (area < r.least_area || area > r.most_area) continue;
        sized++;
        if (sized > 4 * r.balls) return 0;
        const Place at{middles[2 * blob] + left, middles[2 * blob + 1] + top};
        int nearest = 0;
        double least = 1e30;
        for (int ball = 0; ball < r.balls; ball++) {
            const double apart = std::norm(at - r.nodes[ball]);
            if (apart < least) least = apart, nearest = ball;
        }
        if (std::sqrt(least) <= r.match_px) ideal.push_back(r.nodes[nearest]), found.push_back(at);
    }
    if (sized < r.least || found.size() < r.least) return 0;
    const Placement first = fit(ideal, found, r.inlier_px);

    const int across = 2 * r.reach + 1, pixels = across * across;
    std::vector<int> x(r.balls), y(r.balls);
    std::vector<uint8_t> windows(size_t(r.balls) * pixels);
    int64_t corners[256] = {}, cores[256] = {};
    for (int ball = 0; ball < r.balls; ball++) {
        const Place at = first.of(r.nodes[ball]);
        x[ball] = rounded(at.real(), r.reach, r.side - 1 - r.reach);
        y[ball] = rounded(at.imag(), r.reach, r.side - 1 - r.reach);
        uint8_t *window = &windows[size_t(ball) * pixels];
        for (int row = 0; row < across; row++)
            std::copy_n(closed + (y[ball] - r.reach + row) * r.side + x[ball] - r.reach, across,
                        window + row * across);
        for (int n = 0; n < r.corners; n++) corners[window[r.corner[n]]]++;
        for (int n = 0; n < r.cores; n++) cores[window[r.core[n]]]++;
    }
    const double body = median_grey(corners, int64_t(r.balls) * r.corners);
    const double contrast = median_grey(cores, int64_t(r.balls) * r.cores) - body;
    if (contrast < r.min_contrast) return 0;
    float material[256];
    const float base = float(body + r.edge * contrast), scale = float(1 / ((1 - 2 * r.edge) * contrast));
    for (int grey = 0; grey < 256; grey++)
        material[grey] = std::min(std::max((float(grey) - base) * scale, 0.f), 1.f);

    Place *at = reinterpret_cast<Place *>(out + 7), *centre = at + r.balls, *gap_at = centre + r.balls;
    double *fill = reinterpret_cast<double *>(gap_at + r.gaps), *off = fill + r.balls;
    double *elongation = off + r.balls, *gap = elongation + r.balls;
    std::vector<double> areas(r.balls);
    for (int ball = 0; ball < r.balls; ball++) {
        const uint8_t *window = &windows[size_t(ball) * pixels];
        double sum[6] = {};
        for (int row = -r.reach; row <= r.reach; row++) {
            double line = 0, line_x = 0, line_xx = 0;
            for (int column = -r.reach; column <= r.reach; column++) {
                const double share = material[*window++];
                line += share, line_x += share * column, line_xx += share * column * column;
            }
            sum[0] += line, sum[1] += line_x, sum[2] += line * row;
            sum[3] += line_xx, sum[4] += line * row * row, sum[5] += line_x * row;
        }
        const double safe = std::max(sum[0], 1.0), mx = sum[1] / safe, my = sum[2] / safe;
        const double vxx = sum[3] / safe - mx * mx, vyy = sum[4] / safe - my * my;
        const double vxy = sum[5] / safe - mx * my;
        areas[ball] = sum[0];
        centre[ball] = {x[ball] + mx, y[ball] + my};
        elongation[ball] = std::hypot(vxx - vyy, 2 * vxy) / std::max(vxx + vyy, 1e-3);
    }
    const double usual = median(areas);
    ideal.clear(), found.clear();
    for (int ball = 0; ball < r.balls; ball++) {
        fill[ball] = areas[ball] / std::max(usual, 1.0);
        if (fill[ball] >= r.missing && std::abs(fill[ball] - 1) < 0.5)
            ideal.push_back(r.nodes[ball]), found.push_back(centre[ball]);
    }
    if (ideal.empty()) return 0;
    const Placement placement = fit(ideal, found, r.inlier_px);
    for (int ball = 0; ball < r.balls; ball++) {
        at[ball] = placement.of(r.nodes[ball]);
        const bool there = fill[ball] >= r.missing;
        if (!there) centre[ball] = at[ball], elongation[ball] = 0;
        off[ball] = std::abs(centre[ball] - at[ball]);
    }
    for (int n = 0; n < r.gaps; n++) {
        gap_at[n] = (at[r.first[n]] + at[r.second[n]]) / 2.0;
        const double grey = blurred(closed, r.side, rounded(gap_at[n].real(), 0, r.side - 1),
                                    rounded(gap_at[n].imag(), 0, r.side - 1));
        gap[n] = std::max(grey - body, 0.0) / contrast;
    }
    const double head[] = {body, contrast, usual, placement.turn.real(), placement.turn.imag(),
                           placement.offset.real(), placement.offset.imag()};
    std::copy(head, head + 7, out);
    return 1;
}

// How far from each other two cores lie: the time in which a cache line goes from one to the other and back.
#pragma once

namespace fusedrnn {

// Nanoseconds of a round trip between two threads, wherever the system lets them run: the lower quartile of stretches
// of 100 round trips, for `seconds`. Infinite where not even one stretch came to its end in that time, since the
// threads had no two cores. Throws std::invalid_argument for seconds not in (0, 60].
double line_exchange(double seconds);

}  // namespace fusedrnn

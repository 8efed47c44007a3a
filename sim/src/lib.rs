//! The simulator: real shards over simulated disks, clocks and clients, out of one seed; and the checker of histories.

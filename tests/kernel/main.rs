//! The kernel ring: real faults on this machine's kernel, observed by programs and sockets of the
//! tests' own, in namespaces and control groups made for the purpose.

mod cgroup_ns;
mod descriptors;
mod kill;
mod memory_pressure;
mod partition;
mod supervisor;
mod truth;

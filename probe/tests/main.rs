//! One attempt of each kind against servers that answer, refuse, lie, stall, flood and break off.

mod dns;
mod grpc;
mod hostile;
mod http;
mod socket;
mod support;
mod tls;

//! The sim ring: the real controller against agents that are dead, slow, refusing or lying, and the
//! real agent's service against a controller that sends nonsense. No kernel is touched.

mod background;
mod certificates;
mod fleet;
mod follow;
mod house;
mod leave;
mod limits;
mod method;
mod metrics;
mod monitoring;
mod ops;
mod preflight;
mod scale;
mod seen_from;
mod stop;
mod told;
mod truth;
mod verdict;
mod wire;

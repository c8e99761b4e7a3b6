//! danelaw as it is shipped: the systemd units, the Debian and the RPM package with their bill of materials, the container image and the pod.

// A test that cannot go on may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../shared/chart.rs"]
mod chart;
#[path = "../shared/command.rs"]
mod command;
mod compose;
mod cross;
mod debian;
mod first_stage;
mod intercept;
#[path = "../lab/mod.rs"]
mod lab;
mod pod;
mod program;
mod rpm;
mod sbom;
mod systemd;

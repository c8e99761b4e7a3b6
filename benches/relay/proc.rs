//! The cost of processes, from the kernel's counters: CPU time and memory of a process and its descendants, and of the
//! queues of their sockets.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use crate::command::output;

/// `USER_HZ`, the unit of times in /proc on every Linux.
const TICKS: f64 = 100.0;

struct Stat {
    parent: u32,
    /// The CPU time of the process itself and of its ended children.
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields are behind the name, which may hold any characters.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat { parent: number(1)?.try_into().ok()?, ticks: number(11)? + number(12)? + number(13)? + number(14)? })
}

/// The process and its descendants.
fn tree(pid: u32) -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let all: HashMap<u32, Stat> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let below = |mut at: u32| loop {
        match all.get(&at) {
            _ if at == pid => return true,
            Some(stat) => at = stat.parent,
            None => return false,
        }
    };
    let members: Vec<u32> = all.keys().copied().filter(|member| below(*member)).collect();
    all.into_iter().filter(|(member, _)| members.contains(member)).collect()
}

/// Seconds of CPU time so far.
pub(crate) fn cpu(pid: u32) -> f64 {
    tree(pid).values().map(|stat| stat.ticks as f64).sum::<f64>() / TICKS
}

fn field(path: &str, name: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse().ok()).unwrap_or_default()
}

/// The peak memory of a single process, or the present memory of several, shared pages divided among them; in kB.
pub(crate) fn peak(pid: u32) -> f64 {
    let members = tree(pid);
    match members.len() {
        1 => field(&format!("/proc/{pid}/status"), "VmHWM:"),
        _ => resident(pid),
    }
}

/// The memory of the process and its descendants, shared pages divided among them, in kB.
pub(crate) fn resident(pid: u32) -> f64 {
    tree(pid).keys().map(|pid| field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum()
}

/// The memory in the queues of the sockets of the process and its descendants, in kB, and the number of sockets.
pub(crate) fn sockets(pid: u32) -> (f64, f64) {
    let text = output(Command::new("ss").args(["-tmnpHO"])).stdout;
    let text = String::from_utf8_lossy(&text);
    let members = tree(pid);
    let ours = |line: &&str| {
        let owners = line.split("pid=").skip(1).filter_map(|rest| rest.split(',').next()?.parse::<u32>().ok());
        owners.into_iter().any(|owner| members.contains_key(&owner))
    };
    // skmem:(r0,rb131072,t0,tb87040,f0,w0,o0,bl0,d0): read, forward-allocated, write and option memory.
    let octets = |line: &str| -> f64 {
        let skmem = line.split("skmem:(").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default();
        let fields = skmem.split(',').filter_map(|field| match field.split_at_checked(1)? {
            ("r" | "f" | "w" | "o", number) => number.parse::<f64>().ok(),
            _ => None,
        });
        fields.sum()
    };
    let lines: Vec<&str> = text.lines().filter(ours).collect();
    (lines.iter().map(|line| octets(line)).sum::<f64>() / 1024.0, lines.len() as f64)
}

/// The memory of the kernel's own small objects, among them the sockets, in kB.
pub(crate) fn slab() -> f64 {
    field("/proc/meminfo", "Slab:")
}

/// How many TCP sockets this network namespace has.
pub(crate) fn all_sockets() -> f64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: inuse ")).unwrap_or_default();
    line.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

//! Ports for servers that do not choose their own.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::Mutex;

/// A free port below the range from which the system gives ports to connections and to questions over UDP. No other call gets
/// it, in this process or in one beside it, until this process ends.
pub(crate) fn free_port() -> u16 {
    const PORTS: Range<u16> = 20_000..32_000;
    /// No lab uses this address. A listener on it reserves its port for this process until it ends, so that no test beside
    /// this one finds the port free before it is used.
    const RESERVED: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);
    static TAKEN: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap();
    let ports = PORTS.cycle().skip(fastrand::usize(..PORTS.len())).take(PORTS.len());
    for port in ports {
        if let Ok(reservation) = TcpListener::bind((RESERVED, port))
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            taken.push(reservation);
            return port;
        }
    }
    panic!("no port is free")
}

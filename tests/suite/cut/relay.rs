//! A relay between danelaw and the remote that stops at any octet, in either direction.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::attempt::How;

/// The direction of the octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the remote.
    There,
    /// From it.
    Back,
}

pub(crate) struct Relay(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: usize,
    /// The cut that is due: the direction, and the number of octets until it.
    due: Option<(Way, usize, How)>,
    /// The cut that has happened: all octets stop until it is healed.
    cut: Option<How>,
}

impl State {
    /// The number of octets that may pass.
    fn pass(&mut self, way: Way, octets: usize) -> usize {
        if self.cut.is_some() {
            return 0;
        }
        match &mut self.due {
            Some((due, left, how)) if *due == way => {
                let passed = octets.min(*left);
                *left -= passed;
                if passed < octets {
                    self.cut = Some(*how);
                }
                passed
            }
            _ => octets,
        }
    }
}

impl Relay {
    /// Listens until the test ends.
    pub(crate) async fn start(address: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                shared.lock().unwrap().open += 1;
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _ = carry(near, to, &state).await;
                    state.lock().unwrap().open -= 1;
                });
            }
        });
        Self(state)
    }

    /// Cuts every connection after this number of octets in one direction.
    pub(crate) fn cut(&self, way: Way, octets: usize, how: How) {
        self.0.lock().unwrap().due = Some((way, octets, how));
    }

    /// Removes the cut; returns whether there was one.
    pub(crate) fn heal(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        state.due = None;
        state.cut.take().is_some()
    }

    /// The connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.0.lock().unwrap().open
    }
}

async fn carry(mut near: TcpStream, to: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    let mut far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut there, mut back) = ([0; 4096], [0; 4096]);
    loop {
        let (way, read) = tokio::select! {
            read = near.read(&mut there) => (Way::There, read?),
            read = far.read(&mut back) => (Way::Back, read?),
        };
        let passed = state.lock().unwrap().pass(way, read);
        match way {
            Way::There => far.write_all(&there[..passed]).await?,
            Way::Back => near.write_all(&back[..passed]).await?,
        }
        if read == 0 || passed < read {
            let how = state.lock().unwrap().cut;
            if let Some(How::Reset) = how {
                near.set_zero_linger()?;
                far.set_zero_linger()?;
            }
            return Ok(());
        }
    }
}

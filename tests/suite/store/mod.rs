//! The store: the laws of records in a file and in a database, and a database that several danelaws share, under faults.

/// V23: the same for each backend.
macro_rules! laws {
    ($($law:ident),*) => {
        mod in_a_file {
            $(#[tokio::test] async fn $law() { super::$law(super::Backend::file()).await; })*
        }
        mod in_a_database {
            $(#[tokio::test] async fn $law() { super::$law(super::Backend::database()).await; })*
        }
        mod in_a_database_behind_a_pooler {
            $(#[tokio::test] async fn $law() { super::$law(super::Backend::behind_a_pooler()).await; })*
        }
    };
}

mod database;
mod fan_out;
mod faults;
pub(crate) mod hosts;
mod laws;
mod model;
mod pooler;
mod replicas;
pub(crate) mod server;
mod tables;

use std::time::Duration;

use danelaw::journal::{DatabaseSettings, Journal, Message, MessageKey, Pair, Settings, StorePlace, Unclaimed};
use danelaw::smtp::reply::{Code, EnhancedCode, Reply};

use crate::journal::content;

const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn at(place: StorePlace) -> Settings {
    Settings { place, entries: 100_000, expiry: DAY, hold: Duration::from_secs(600) }
}

/// One danelaw of those that share a database.
async fn replica(settings: DatabaseSettings) -> Journal {
    Journal::open(at(StorePlace::Database(Box::new(settings)))).await.unwrap().0
}

fn delivered(text: &str) -> Reply {
    Reply::new(Code::OK, EnhancedCode::success(0, 0), format!("mx.test[192.0.2.1]: {text}"))
}

fn refused() -> Reply {
    let lines = ["mx.test[192.0.2.1]: no such user", "mx.test[192.0.2.1]: <one@a.test>"];
    Reply::multiline(Code::MAILBOX_UNAVAILABLE, Some(EnhancedCode::permanent(1, 1)), lines)
}

fn key(text: &str, to: &[Pair]) -> MessageKey {
    MessageKey::new(content(text), to.iter().copied())
}

async fn claim(journal: &Journal, text: &str, to: &[Pair]) -> Result<Message, Unclaimed> {
    journal.message(key(text, to), to).await
}

/// Claims a message that another session is about to let go.
async fn message(journal: &Journal, text: &str, to: &[Pair]) -> Message {
    for _ in 0..500 {
        match claim(journal, text, to).await {
            Ok(message) => return message,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{text} is busy for ever");
}

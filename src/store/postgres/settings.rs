//! How to reach the database: from the configuration alone.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, io};

use aws_lc_rs::hmac;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::DatabaseOpenError;
use crate::config::{DatabaseHost, DatabaseTls, DatabaseUrl};
use crate::operator_file::SETTINGS;
use crate::roots;

/// Variables that the library reads and that no setting replaces.
const FOREIGN: [&str; 4] = ["PGOPTIONS", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT"];
/// Octets that a pepper has at least.
const PEPPER: usize = 32;

/// The settings of a database.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// Its address.
    pub url: DatabaseUrl,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// A file of CA certificates, beside the built-in ones.
    pub ca: Option<PathBuf>,
    /// A file with the key that addresses and messages are digested with.
    pub pepper_file: Option<PathBuf>,
    /// The most connections.
    pub connections: usize,
    /// How long a call may take.
    pub patience: Duration,
    /// Whether missing tables are made at the start.
    pub migration: Migration,
}

/// Whether missing tables are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    /// They are.
    AtStart,
    /// They must be there.
    ByHand,
}

impl DatabaseSettings {
    /// The options of a connection. The password is read each time, so that it may change. The library starts with the
    /// variables PG* of the environment; each of them is replaced here, or refused by [`refuse_foreign_settings`].
    pub(super) fn options(&self) -> Result<PgConnectOptions, DatabaseOpenError> {
        let password = match &self.password_file {
            Some(path) => read("store.password_file", path)?.trim_end_matches(['\r', '\n']).to_owned(),
            None => String::new(),
        };
        let DatabaseUrl { host, port, user, database, tls } = &self.url;
        let patience = self.patience.as_millis();
        let options = PgConnectOptions::new_without_pgpass()
            .port(*port)
            .username(user)
            .database(database)
            .password(&password)
            .application_name("danelaw")
            .ssl_mode(match tls {
                DatabaseTls::Verified => PgSslMode::VerifyFull,
                DatabaseTls::Off => PgSslMode::Disable,
            })
            // The server gives up too, so that no call goes on behind our back for long.
            .options([("statement_timeout", patience), ("lock_timeout", patience)])
            .disable_statement_logging();
        let options = match host {
            DatabaseHost::Tcp(host) => options.host(host),
            DatabaseHost::Unix(directory) => options.host("localhost").socket(directory),
        };
        Ok(match (&self.ca, tls) {
            (Some(ca), DatabaseTls::Verified) => {
                // The library would read any file, whole, and tell neither the key nor the file.
                roots::authorities(ca).map_err(DatabaseOpenError::Ca)?;
                options.ssl_root_cert(ca)
            }
            (Some(_), DatabaseTls::Off) | (None, _) => options,
        })
    }

    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// One of them is of no use.
    pub fn files(&self) -> Result<(), DatabaseOpenError> {
        self.options()?;
        self.pepper().map(drop)
    }

    pub(super) fn pepper(&self) -> Result<Option<hmac::Key>, DatabaseOpenError> {
        let Some(path) = &self.pepper_file else { return Ok(None) };
        let key = "store.pepper_file";
        let octets = SETTINGS.read(path).map_err(|error| DatabaseOpenError::file(key, path, error))?;
        if octets.len() < PEPPER {
            let short = io::Error::new(io::ErrorKind::InvalidData, "it has less than 32 octets");
            return Err(DatabaseOpenError::file(key, path, short));
        }
        Ok(Some(hmac::Key::new(hmac::HMAC_SHA256, &octets)))
    }
}

/// A variable of the environment that would change the connection is an error.
pub(super) fn refuse_foreign_settings() -> Result<(), DatabaseOpenError> {
    match FOREIGN.into_iter().find(|variable| env::var_os(variable).is_some()) {
        Some(variable) => Err(DatabaseOpenError::Environment(variable)),
        None => Ok(()),
    }
}

fn read(key: &'static str, path: &Path) -> Result<String, DatabaseOpenError> {
    SETTINGS.text(path).map_err(|error| DatabaseOpenError::file(key, path, error))
}

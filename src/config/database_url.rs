//! The address of a database: a URL without a password.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::hex::percent_decoded;

/// The port of PostgreSQL.
const PORT: u16 = 5432;
/// An example, for error texts.
const EXAMPLE: &str =
    "postgresql://danelaw@db.example.net/danelaw or postgresql://danelaw@/danelaw?host=/run/postgresql";

/// The address of a PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// Where the server is.
    pub host: DatabaseHost,
    /// Its port; also a part of the name of its socket.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// Whether the connection has TLS.
    pub tls: DatabaseTls,
}

/// Where a database server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseHost {
    /// A host name or an address.
    Tcp(String),
    /// The directory of its Unix socket.
    Unix(PathBuf),
}

/// Whether the connection to a database has TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseTls {
    /// It has, and the certificate must be one for the host.
    Verified,
    /// It has not: the server is on this machine, or the URL says so.
    Off,
}

/// Why a text is no address of a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Another form.
    #[error("it is no URL such as {EXAMPLE}")]
    Form,
    /// It has a password.
    #[error("it has a password, which logs would show; put that into a file, and name the file in store.password_file")]
    Password,
    /// It names no role.
    #[error("it names no role; write it before the @, as in {EXAMPLE}")]
    NoUser,
    /// It names no database.
    #[error("it names no database; write it behind the host, as in {EXAMPLE}")]
    NoDatabase,
    /// It names no host.
    #[error("it names no host; write one behind the @, or the directory of the socket as ?host=/run/postgresql")]
    NoHost,
    /// A parameter that is not known.
    #[error(
        "it has the parameter {0:?}; it may have host (the directory of a Unix socket) and sslmode (disable or verify-full)"
    )]
    Parameter(String),
    /// A parameter with another value. The value may be a secret.
    #[error(
        "its {0} has a value of another form: host is the directory of a Unix socket, and sslmode is disable or verify-full"
    )]
    Value(String),
    /// A host and the directory of a socket.
    #[error("it names two hosts, one behind the @ and one as ?host=; leave one of them out")]
    TwoHosts,
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        let rest = rest.ok_or(DatabaseUrlError::Form)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, address) = authority.rsplit_once('@').ok_or(DatabaseUrlError::NoUser)?;
        if user.contains(':') || query.split('&').any(|parameter| parameter.starts_with("password=")) {
            return Err(DatabaseUrlError::Password);
        }
        let (user, database) = (decoded(user)?, decoded(database)?);
        if user.contains(':') {
            return Err(DatabaseUrlError::Password);
        }
        if user.is_empty() {
            return Err(DatabaseUrlError::NoUser);
        }
        if database.is_empty() {
            return Err(DatabaseUrlError::NoDatabase);
        }
        let (host, port) = host_and_port(address)?;
        let parameters = Parameters::parse(query)?;
        let host = match (parameters.directory, host) {
            (Some(directory), "") => DatabaseHost::Unix(directory),
            (Some(_), _) => return Err(DatabaseUrlError::TwoHosts),
            (None, "") => return Err(DatabaseUrlError::NoHost),
            (None, host) => DatabaseHost::Tcp(host.to_owned()),
        };
        let tls = parameters.tls.unwrap_or_else(|| host.default_tls());
        Ok(Self { host, port, user, database, tls })
    }
}

/// The parameters behind the question mark.
#[derive(Default)]
struct Parameters {
    directory: Option<PathBuf>,
    tls: Option<DatabaseTls>,
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, DatabaseUrlError> {
        let mut parameters = Self::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decoded(value)?;
            match (key, value.as_str()) {
                ("host", value) if value.starts_with('/') => parameters.directory = Some(PathBuf::from(value)),
                ("sslmode", "disable") => parameters.tls = Some(DatabaseTls::Off),
                ("sslmode", "verify-full") => parameters.tls = Some(DatabaseTls::Verified),
                ("host" | "sslmode", _) => return Err(DatabaseUrlError::Value(key.to_owned())),
                _ => return Err(DatabaseUrlError::Parameter(key.to_owned())),
            }
        }
        Ok(parameters)
    }
}

impl DatabaseHost {
    /// A connection that leaves the machine has TLS.
    fn default_tls(&self) -> DatabaseTls {
        match self {
            Self::Unix(_) => DatabaseTls::Off,
            Self::Tcp(host) if host == "localhost" => DatabaseTls::Off,
            Self::Tcp(host) => match host.parse::<IpAddr>() {
                Ok(address) if address.is_loopback() => DatabaseTls::Off,
                Ok(_) | Err(_) => DatabaseTls::Verified,
            },
        }
    }
}

/// The host without the brackets of an IPv6 address, and the port.
fn host_and_port(address: &str) -> Result<(&str, u16), DatabaseUrlError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(DatabaseUrlError::Form)?,
        None => address.split_at(address.find(':').unwrap_or(address.len())),
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, PORT)),
        None => Err(DatabaseUrlError::Form),
        Some(port) => Ok((host, port.parse().map_err(|_| DatabaseUrlError::Form)?)),
    }
}

fn decoded(text: &str) -> Result<String, DatabaseUrlError> {
    percent_decoded(text).ok_or(DatabaseUrlError::Form)
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            DatabaseHost::Tcp(host) => write!(f, "{}@{host}:{}/{}", self.user, self.port, self.database),
            DatabaseHost::Unix(directory) => {
                write!(f, "{}@{}:{}/{}", self.user, directory.display(), self.port, self.database)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v21_a_connection_that_leaves_the_machine_is_verified() {
        use DatabaseTls::{Off, Verified};
        for (text, host, port, tls) in [
            ("postgresql://d@db.example.net/danelaw", "db.example.net", 5432, Verified),
            ("postgres://d@db.example.net:6432/danelaw", "db.example.net", 6432, Verified),
            ("postgresql://d@db.example.net/danelaw?sslmode=disable", "db.example.net", 5432, Off),
            ("postgresql://d@192.0.2.1/danelaw", "192.0.2.1", 5432, Verified),
            ("postgresql://d@[2001:db8::1]:7/danelaw", "2001:db8::1", 7, Verified),
            ("postgresql://d@127.0.0.1/danelaw", "127.0.0.1", 5432, Off),
            ("postgresql://d@[::1]/danelaw", "::1", 5432, Off),
            ("postgresql://d@localhost/danelaw", "localhost", 5432, Off),
            ("postgresql://d@localhost/danelaw?sslmode=verify-full", "localhost", 5432, Verified),
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!((url.host, url.port, url.tls), (DatabaseHost::Tcp(host.to_owned()), port, tls), "{text}");
            assert_eq!((url.user.as_str(), url.database.as_str()), ("d", "danelaw"));
        }
        let socket: DatabaseUrl = "postgresql://d%40x@:5433/d%2fb?host=/run/postgresql".parse().unwrap();
        assert_eq!(socket.host, DatabaseHost::Unix("/run/postgresql".into()));
        assert_eq!((socket.port, socket.user.as_str(), socket.database.as_str()), (5433, "d@x", "d/b"));
    }

    #[test]
    fn a_url_that_is_unclear_is_an_error() {
        use DatabaseUrlError::{Form, NoDatabase, NoHost, NoUser, Password};
        for (text, error) in [
            ("mysql://d@h/d", Form),
            ("postgresql://h/d", NoUser),
            ("postgresql://@h/d", NoUser),
            ("postgresql://d@h", NoDatabase),
            ("postgresql://d@/d", NoHost),
            ("postgresql://d:secret@h/d", Password),
            ("postgresql://d@h/d?password=secret", Password),
            ("postgresql://d@h:x/d", Form),
            ("postgresql://d@[::1/d", Form),
            ("postgresql://d%4@h/d", Form),
            ("postgresql://d%zz@h/d", Form),
        ] {
            assert_eq!(text.parse::<DatabaseUrl>(), Err(error), "{text}");
        }
        for parameter in ["options=-c%20x", "sslrootcert=/x"] {
            let error = format!("postgresql://d@h/d?{parameter}").parse::<DatabaseUrl>().unwrap_err();
            assert!(matches!(error, DatabaseUrlError::Parameter(_)), "{parameter}: {error}");
        }
        for (parameter, key) in [("sslmode=prefer", "sslmode"), ("sslmode=require", "sslmode"), ("host=db", "host")] {
            let error = format!("postgresql://d@h/d?{parameter}").parse::<DatabaseUrl>();
            assert_eq!(error, Err(DatabaseUrlError::Value(key.to_owned())), "{parameter}");
        }
        let two = "postgresql://d@h/d?host=/run/postgresql".parse::<DatabaseUrl>();
        assert_eq!(two, Err(DatabaseUrlError::TwoHosts));
    }
}

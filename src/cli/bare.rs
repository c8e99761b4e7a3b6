//! `danelaw` without a command and without a configuration: a person may try it, and reads which steps follow.

use std::io::{self, IsTerminal};

use super::load::{self, SYSTEM_FILE};
use super::{ConfigFlags, log};
use crate::config::Config;

/// Names on a terminal the steps that follow, and the places of help. The standard error of a script or a service manager has no
/// such lines.
pub(super) fn announce(config: &Config, settings: &ConfigFlags) {
    let is_configured = settings.config.is_some() || !settings.set.is_empty() || load::has_system_files();
    if !is_configured && io::stderr().is_terminal() {
        log::remark(&words(config));
    }
}

fn words(config: &Config) -> String {
    let listeners: Vec<String> = config.listener.iter().map(|listener| listener.address.to_string()).collect();
    format!(
        "there is no {SYSTEM_FILE}: on its defaults danelaw now takes mail at {} and delivers it, by DANE where a domain \
         has it and never in cleartext; ^C ends it\n\
         \"danelaw --help\" lists the commands; \"danelaw check DOMAIN\" shows how mail would go, and sends none",
        listeners.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::with;

    #[test]
    fn it_says_where_mail_is_taken_and_where_help_is() {
        let words = words(&with("").unwrap());
        assert_eq!(words.lines().count(), 2);
        for part in ["/etc/danelaw/danelaw.toml", "127.0.0.1:10025", "^C", "danelaw --help", "danelaw check"] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }
}

//! The files that the configuration names and danelaw reads.

use std::path::Path;

use super::{Config, EntryKey, Listener};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile<'a> {
    /// The key, as a text about it begins: `tls.ca`, or `listener.key: listener 3`.
    pub key: String,
    /// The file.
    pub path: &'a Path,
}

impl Config {
    /// The files. Those of sockets and of the store are none of them: danelaw makes these itself.
    pub fn files(&self) -> Vec<NamedFile<'_>> {
        let named = [
            ("dns.trust_anchor", &self.dns.trust_anchor),
            ("dns.root_hints", &self.dns.root_hints),
            ("dns.tls_ca", &self.dns.tls_ca),
            ("tls.ca", &self.tls.ca),
            ("tls.extra_ca", &self.tls.extra_ca),
            ("store.password_file", &self.store.password_file),
            ("store.ca", &self.store.ca),
            ("store.pepper_file", &self.store.pepper_file),
            ("tlsrpt.dkim_key", &self.tlsrpt.dkim_key),
            ("tlsrpt.dkim_ed25519_key", &self.tlsrpt.dkim_ed25519_key),
        ];
        let single = named.into_iter().filter_map(|(key, path)| {
            let path = path.as_deref()?;
            Some(NamedFile { key: key.to_owned(), path })
        });
        let listeners = self.listener.iter().enumerate();
        single.chain(listeners.flat_map(|(entry, listener)| listener.files(entry))).collect()
    }
}

impl Listener {
    fn files(&self, entry: usize) -> impl Iterator<Item = NamedFile<'_>> {
        let named = [
            ("listener.certificate", &self.certificate),
            ("listener.key", &self.key),
            ("listener.client_ca", &self.client_ca),
        ];
        named.into_iter().filter_map(move |(key, path)| {
            let path = path.as_deref()?;
            Some(NamedFile { key: EntryKey { key, entry }.to_string(), path })
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::with;

    /// The keys of a section that have a path as their value, in the order of the file.
    fn paths(section: &'static str, text: &'static str) -> impl Iterator<Item = String> {
        let fields = text.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
        fields.filter(|(_, kind)| kind.contains("PathBuf")).map(move |(key, _)| format!("{section}.{key}"))
    }

    #[test]
    fn each_path_is_a_file_that_is_read_or_one_that_danelaw_makes() {
        let sections = [
            ("admin", include_str!("admin.rs")),
            ("dns", include_str!("dns.rs")),
            ("limits", include_str!("limits.rs")),
            ("log", include_str!("log.rs")),
            ("mta_sts", include_str!("mta_sts.rs")),
            ("negative_trust_anchor", include_str!("negative_trust_anchor.rs")),
            ("remote", include_str!("remote.rs")),
            ("rule", include_str!("rule.rs")),
            ("store", include_str!("store.rs")),
            ("timeouts", include_str!("timeouts.rs")),
            ("tls", include_str!("tls.rs")),
            ("tlsrpt", include_str!("tlsrpt.rs")),
            ("watch", include_str!("watch.rs")),
            ("listener", include_str!("listener.rs")),
        ];
        let made = ["store.path", "tlsrpt.collectd"];
        let all = sections.into_iter().flat_map(|(section, text)| paths(section, text));
        let mut read: Vec<String> = all.filter(|key| !made.contains(&key.as_str())).collect();
        let mut table = toml::Table::new();
        for key in &read {
            let (section, key) = key.split_once('.').unwrap();
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
            section.insert(key.to_owned(), format!("/{key}").into());
        }
        let mut listener = table.remove("listener").unwrap();
        listener
            .as_table_mut()
            .unwrap()
            .extend([("address".to_owned(), "127.0.0.1:2525".into()), ("tls".to_owned(), "required".into())]);
        table.insert("listener".to_owned(), vec![listener].into());
        let store = table["store"].as_table_mut().unwrap();
        store.insert("url".to_owned(), "postgresql://danelaw@db.test/danelaw?sslmode=verify-full".into());
        let tlsrpt = table["tlsrpt"].as_table_mut().unwrap();
        tlsrpt.extend(
            ["mode", "organization", "contact"]
                .map(str::to_owned)
                .into_iter()
                .zip(["send", "Example", "reports@example.com"].map(toml::Value::from)),
        );
        let config = with(&table.to_string()).unwrap();
        let mut named: Vec<String> =
            config.files().into_iter().map(|file| file.key.replace(": listener 1", "")).collect();
        read.sort();
        named.sort();
        assert_eq!(named, read);
    }
}

# A mail by the library that GitLab, Mastodon and Discourse send with, with the settings that each of them makes of its own.
#
#   ruby rails.rb PROGRAM SETTINGS RECIPIENT      settings as a JSON object; prints "sent", or the error that the program hears
require "json"
require "action_mailer"

program, settings, recipient = ARGV[0], JSON.parse(ARGV[1]), ARGV[2]
ActionMailer::Base.smtp_settings =
  case program
  when "GitLab"
    settings.to_h { |name, value| [name.delete_prefix("smtp_").to_sym, value] }.except(:enable)
  when "Mastodon"
    {
      address: settings.fetch("SMTP_SERVER"), port: settings.fetch("SMTP_PORT"),
      authentication: settings["SMTP_AUTH_METHOD"] == "none" ? nil : :plain,
      openssl_verify_mode: settings["SMTP_OPENSSL_VERIFY_MODE"], enable_starttls_auto: true
    }
  when "Discourse"
    {
      address: settings.fetch("DISCOURSE_SMTP_ADDRESS"), port: settings.fetch("DISCOURSE_SMTP_PORT"),
      authentication: "plain", enable_starttls_auto: settings.fetch("DISCOURSE_SMTP_ENABLE_START_TLS")
    }
  end

class Notes < ActionMailer::Base
  def note(recipient)
    mail(from: "alice@client.test", to: recipient, subject: "A note", body: "The text.\n")
  end
end

begin
  Notes.note(recipient).deliver_now
  puts "sent"
rescue StandardError => error
  puts "#{error.class}: #{error.message}"
  exit 1
end

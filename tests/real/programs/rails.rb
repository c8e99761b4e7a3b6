# A mail by the library that GitLab, Mastodon and Discourse send with, with the settings that each of them makes of its own.
#
#   ruby rails.rb RECIPIENT [PROGRAM SETTINGS]..      settings as a JSON object; prints for each program "sent", or the error it hears
require "json"
require "action_mailer"

def smtp_settings(program, settings)
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
end

class Notes < ActionMailer::Base
  def note(recipient)
    mail(from: "alice@client.test", to: recipient, subject: "A note", body: "The text.\n")
  end
end

recipient, *programs = ARGV
programs.each_slice(2) do |program, settings|
  ActionMailer::Base.smtp_settings = smtp_settings(program, JSON.parse(settings))
  Notes.note(recipient).deliver_now
  puts "#{program}: sent"
rescue StandardError => error
  puts "#{program}: #{error.class}: #{error.message.tr("\n", " ")}"
end

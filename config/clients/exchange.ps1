# Exchange Server 2013 to SE: all outbound mail goes to danelaw.example.com, port 10025, under verified TLS.
# In the Exchange Management Shell. The certificate of danelaw must be of an authority that Windows trusts.
New-SendConnector -Name "danelaw" -Usage Custom -AddressSpaces "SMTP:*;1" -SourceTransportServers "EX01" `
  -DNSRoutingEnabled $false -SmartHosts "danelaw.example.com" -SmartHostAuthMechanism None `
  -RequireTLS $true -TlsAuthLevel DomainValidation -TlsDomain "danelaw.example.com" `
  -ConnectionInactivityTimeOut 00:15:00
Set-SendConnector "danelaw" -Port 10025

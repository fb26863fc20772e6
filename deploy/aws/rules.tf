# What may talk to what, worked out from deploy/hosts.json, the list that the hosts' own firewalls follow, too.
# Nothing but expressions: tests evaluate this file without AWS.

locals {
  hosts = ["controltower", "workhorse", "nervous"]
  roles = { for role, ports in jsondecode(file("${path.module}/../hosts.json")) : role => ports if contains(local.hosts, role) }

  openings = flatten([
    for role, ports in local.roles : [
      for opening in ports : [
        for source in opening.from : {
          role   = role
          port   = opening.port
          source = source
          what   = opening.what
        }
      ]
    ]
  ])

  # A host that speaks to itself does not pass its security group.
  from_peers = {
    for opening in local.openings : "${opening.role}-${opening.port}-${opening.source}" => opening
    if contains(keys(local.roles), opening.source) && opening.source != opening.role
  }

  networks = {
    administrators = distinct(var.administrators)
    everyone       = ["0.0.0.0/0"]
  }

  from_networks = {
    for opening in flatten([
      for opening in local.openings : [
        for network in local.networks[opening.source] : merge(opening, { network = network })
      ] if contains(keys(local.networks), opening.source)
    ]) : "${opening.role}-${opening.port}-${opening.network}" => opening
  }

  # Ports of the internet that hosts call: packages over HTTP (they are signed), all else over HTTPS. Names and
  # time come from addresses that security groups do not concern.
  to_internet = {
    for call in flatten([
      for role in keys(local.roles) : [
        for port in concat([80, 443], role == "nervous" ? [var.smtp_port] : []) : { role = role, port = port }
      ]
    ]) : "${call.role}-${call.port}" => call
  }
}

# What the hosts must know of each other and of the archive: lines of deploy/compose/.env. Nothing but expressions:
# tests evaluate this file without AWS.

locals {
  subnets = { for index, role in local.hosts : role => cidrsubnet(var.network, 2, index) }
  # The first four addresses of a subnet are AWS's. Fixed ones, so that hosts can be told of each other.
  addresses = { for role, subnet in local.subnets : role => cidrhost(subnet, 10) }

  settings = {
    for role in local.hosts : role => merge(
      {
        MARQUEE_VERSION         = trimprefix(var.release, "v")
        MARQUEE_SITE            = var.site
        MARQUEE_TLS             = var.tls
        MARQUEE_PRIVATE_ADDRESS = local.addresses[role]
        MARQUEE_WORKHORSE       = local.addresses["workhorse"]
        MARQUEE_CONTROLTOWER    = local.addresses["controltower"]
        MARQUEE_NERVOUS         = local.addresses["nervous"]
      },
      var.registry == null ? {} : { MARQUEE_REGISTRY = var.registry },
      # Without credentials: the host's role gives them.
      role == "workhorse" ? {
        MARQUEE_OBJECTS__URL    = "s3://${var.bucket}/${var.archive_prefix}"
        MARQUEE_OBJECTS__REGION = var.region
      } : {}
    )
  }

  start = {
    for role, settings in local.settings : role => templatefile("${path.module}/start.sh.tftpl", {
      role           = role
      settings       = settings
      administrators = local.networks.administrators
    })
  }
}

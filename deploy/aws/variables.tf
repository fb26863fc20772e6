variable "name" {
  description = "Name of this deployment; every resource is named after it."
  type        = string
  default     = "marquee"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "Give 2 to 21 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "region" {
  description = "Region of everything, e.g. eu-central-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Give a region such as eu-central-1."
  }
}

variable "availability_zone" {
  description = "Zone of the three hosts, e.g. eu-central-1a. They share one: traffic between zones costs money, and three single hosts gain nothing by being apart."
  type        = string

  validation {
    condition     = startswith(var.availability_zone, var.region)
    error_message = "The zone must lie in the region."
  }
}

variable "network" {
  description = "Private IPv4 range, divided by four: one subnet for each host, one in reserve."
  type        = string
  default     = "10.20.0.0/24"

  validation {
    condition     = can(cidrhost(var.network, 0)) && try(tonumber(split("/", var.network)[1]) >= 16 && tonumber(split("/", var.network)[1]) <= 26, false)
    error_message = "Give an IPv4 range between /16 and /26; AWS makes no subnet smaller than /28."
  }
}

variable "hosts" {
  description = "Size of each host: x86-64 instance type, GiB of the system's disk, GiB of the data disk (images, databases, models, metrics, logs)."
  type = map(object({
    instance_type = string
    system_gib    = number
    data_gib      = number
  }))
  default = {
    workhorse    = { instance_type = "m7i.xlarge", system_gib = 20, data_gib = 100 }
    controltower = { instance_type = "t3.large", system_gib = 20, data_gib = 30 }
    nervous      = { instance_type = "t3.large", system_gib = 20, data_gib = 60 }
  }

  validation {
    condition     = toset(keys(var.hosts)) == toset(["workhorse", "controltower", "nervous"])
    error_message = "Give exactly the hosts workhorse, controltower and nervous."
  }

  validation {
    condition     = alltrue([for host in values(var.hosts) : host.system_gib >= 16 && host.data_gib >= 20])
    error_message = "A system's disk needs 16 GiB, a data disk 20 GiB at least."
  }
}

variable "administrators" {
  description = "IPv4 networks that may reach port 22 of the hosts. Empty: port 22 is closed, and administrators come through SSM Session Manager."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for network in var.administrators : can(cidrhost(network, 0)) && try(tonumber(split("/", network)[1]) >= 16, false)])
    error_message = "Give IPv4 networks such as 203.0.113.7/32, none larger than /16: SSH is not for everybody."
  }
}

variable "repository" {
  description = "HTTPS address of the Git repository that the hosts clone; it must be readable without a password."
  type        = string

  validation {
    condition     = can(regex("^https://[A-Za-z0-9./_-]+$", var.repository))
    error_message = "Give an https:// address without user, password or query."
  }
}

variable "registry" {
  description = "Where the images come from: registry and folder, without https:// and without the image's name. Unset: where the releases of the repository are, if it is on GitHub (deploy/bin/init)."
  type        = string
  default     = null

  validation {
    condition     = var.registry == null || can(regex("^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+$", var.registry))
    error_message = "Give a registry and a folder such as ghcr.io/example."
  }
}

variable "release" {
  description = "Release that the hosts begin with, a tag of the repository, e.g. v0.2.0. Later releases come by deployment, not by Terraform."
  type        = string

  validation {
    condition     = can(regex("^v[0-9]+[.][0-9]+[.][0-9]+$", var.release))
    error_message = "Give a tag such as v0.2.0."
  }
}

variable "site" {
  description = "Domain name of the site. Its A record must point to the output public_address before the proxy can have a certificate."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?[.])+[a-z]{2,}$", var.site))
    error_message = "Give a domain name such as films.example.org."
  }
}

variable "tls" {
  description = "E-mail address for certificates of Let's Encrypt, which writes there when one runs out; or internal, for certificates that browsers do not know."
  type        = string

  validation {
    condition     = var.tls == "internal" || can(regex("^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+[.][a-z]{2,}$", var.tls))
    error_message = "Give an e-mail address, or internal."
  }
}

variable "bucket" {
  description = "Name of the archive's bucket, unique in all of AWS; the bucket of its access logs has -logs at its end."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,56}[a-z0-9]$", var.bucket))
    error_message = "Give 3 to 58 lower-case letters, digits and hyphens."
  }
}

variable "archive_prefix" {
  description = "Folder of the bucket that Marquee uses and its role is limited to."
  type        = string
  default     = "marquee"

  validation {
    condition     = can(regex("^[A-Za-z0-9_=+@:,-]+$", var.archive_prefix))
    error_message = "Give one path segment of letters, digits and _=+@:,-."
  }
}

variable "undelete_days" {
  description = "Days in which what Marquee deleted or overwrote in the archive can be brought back. They come on top of MARQUEE_BACKUP__RAW_DAYS for people who were erased."
  type        = number
  default     = 7

  validation {
    condition     = var.undelete_days >= 1 && var.undelete_days <= 90 && floor(var.undelete_days) == var.undelete_days
    error_message = "Give 1 to 90 whole days."
  }
}

variable "log_days" {
  description = "Days for which access logs of the archive and flow logs of the network are kept."
  type        = number
  default     = 90

  validation {
    condition     = var.log_days >= 1 && floor(var.log_days) == var.log_days
    error_message = "Give at least one whole day."
  }
}

variable "smtp_port" {
  description = "Port at which Alertmanager on nervous reaches your mail server; AWS blocks 25."
  type        = number
  default     = 587

  validation {
    condition     = contains([465, 587, 2465, 2587], var.smtp_port)
    error_message = "Give a submission port: 465, 587, 2465 or 2587."
  }
}

variable "detailed_monitoring" {
  description = "Whether CloudWatch has figures of every minute instead of every five."
  type        = bool
  default     = true
}

variable "termination_protection" {
  description = "Whether AWS refuses to terminate the hosts. Apply with false before you destroy them."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Further tags of every resource, e.g. a cost centre."
  type        = map(string)
  default     = {}
}

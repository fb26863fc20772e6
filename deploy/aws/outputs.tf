output "public_address" {
  description = "Address that the A record of the site must have."
  value       = aws_eip.site.public_ip
}

output "outgoing_address" {
  description = "Address that workhorse and nervous have for servers of the internet, e.g. for a mail server's list."
  value       = aws_eip.nat.public_ip
}

output "private_addresses" {
  description = "Address of each host in the private network."
  value       = local.addresses
}

output "instances" {
  description = "Instance of each host, for aws ssm start-session --target."
  value       = { for role, host in aws_instance.host : role => host.id }
}

output "archive" {
  description = "The archive as MARQUEE_OBJECTS__URL."
  value       = "s3://${aws_s3_bucket.archive.id}/${var.archive_prefix}"
}

output "settings" {
  description = "Lines of deploy/compose/.env, for each host; its first start writes them."
  value       = { for role, settings in local.settings : role => join("\n", [for name, value in settings : "${name}=${value}"]) }
}

terraform {
  required_version = "~> 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.39"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = merge({ Project = "marquee", Deployment = var.name }, var.tags)
  }
}

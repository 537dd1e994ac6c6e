# One agent on each client. The client's docker plugin has to allow the two capabilities:
# plugin "docker" { config { allow_caps = ["bpf", "perfmon"]  volumes { enabled = true } } }
job "podwitness" {
  type = "system"

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  update {
    max_parallel = 1
  }

  group "agent" {
    network {
      port "metrics" {
        to = 9481
      }
    }

    service {
      name     = "podwitness"
      port     = "metrics"
      provider = "nomad"

      check {
        type     = "http"
        path     = "/readyz"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "agent" {
      driver = "docker"
      user   = "0"

      config {
        # The archive's own name, on each client by `docker load`; else where you have pushed it to.
        image           = "localhost/podwitness:0.1.0"
        ports           = ["metrics"]
        cap_drop        = ["all"]
        cap_add         = ["bpf", "perfmon"]
        security_opt    = ["no-new-privileges"]
        readonly_rootfs = true
        volumes = [
          "/sys/fs/cgroup:/sys/fs/cgroup:ro",
          "/sys/kernel/tracing:/sys/kernel/tracing:ro",
        ]
      }

      env {
        PODWITNESS_IDENTITY_KUBERNETES = "off"
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }
}

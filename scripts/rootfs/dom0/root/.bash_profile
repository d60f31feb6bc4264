cd /root
cat /etc/motd

"""Outputs that another host computed: finding the files of each image, telling the heads apart, reading the speed."""
